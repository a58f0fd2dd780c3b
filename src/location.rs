//! Where a pond is: a directory, or a prefix of an object store.
//!
//! An object store must have put-if-absent, on which commits rest: Amazon S3 and what speaks its
//! protocol (`s3://`), Google Cloud Storage (`gs://`), Azure Blob Storage (`az://`), each behind a cargo
//! feature, and whatever an application brings with [`Remote::new`]. Credentials, region and endpoint
//! come from the environment under the names that the vendor's own tools use (`AWS_ACCESS_KEY_ID`,
//! `AWS_ENDPOINT_URL`, …); none is stored.
//!
//! What is derived never goes to an object store: the cache of such a pond is below the user's cache
//! directory, in a place of its own for each URL and each identity of a pond.

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use twox_hash::XxHash3_128;
use url::Url;

use crate::error::{Error, Result};
use crate::policy::{Access, Policy};

/// Where a pond is.
#[derive(Debug, Clone)]
pub enum Location {
    /// In a directory.
    Local(PathBuf),
    /// In an object store.
    Remote(Remote),
}

/// A prefix of an object store.
#[derive(Debug, Clone)]
pub struct Remote {
    url: Url,
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// What tells it from others of the same URL: the service that is asked.
    service: String,
    cache: Option<PathBuf>,
}

impl Location {
    /// Parses what a user gives: a URL with `://`, or else a directory.
    ///
    /// # Errors
    /// `Invalid` for a URL that names no store, or whose settings in the environment make no sense;
    /// `Unsupported` for a scheme that this pond was built without.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.contains("://") {
            return Ok(Self::Local(text.into()));
        }
        let invalid = || Error::invalid(format!("'{text}' is no URL of a pond"));
        let url = Url::parse(text).map_err(|error| invalid().with_source(error))?;
        if url.scheme() == "file" {
            return url.to_file_path().map(Self::Local).map_err(|()| invalid());
        }
        Remote::parse(text, &url).map(Self::Remote)
    }

    /// Refuses a place that `policy` does not allow: what is outside of the host is only where all of it
    /// is allowed.
    ///
    /// # Errors
    /// `Refused`.
    pub fn check(&self, policy: &Policy, access: Access) -> Result<()> {
        match self {
            Self::Local(dir) => policy.check_host(dir, access),
            Self::Remote(_) if policy.allows_host() => Ok(()),
            Self::Remote(remote) => Err(policy.refuse_host(&remote.url, access)),
        }
    }

    /// Returns the directory; `None` in an object store.
    pub fn dir(&self) -> Option<&FsPath> {
        match self {
            Self::Local(dir) => Some(dir),
            Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "{}", dir.display()),
            Self::Remote(remote) => write!(f, "{}", remote.url),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(dir: PathBuf) -> Self {
        Self::Local(dir)
    }
}

impl<P: AsRef<FsPath> + ?Sized> From<&P> for Location {
    fn from(dir: &P) -> Self {
        Self::Local(dir.as_ref().to_owned())
    }
}

impl From<Remote> for Location {
    fn from(remote: Remote) -> Self {
        Self::Remote(remote)
    }
}

impl Remote {
    /// The prefix that the path of `url` names in `store`, which holds what is below the URL's host.
    ///
    /// # Errors
    /// `Invalid` for a path that no object can have.
    pub fn new(url: Url, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let root = Path::from_url_path(url.path())
            .map_err(|error| Error::invalid(format!("'{url}'")).with_source(error))?;
        Ok(Self { url, store, root, service: String::new(), cache: user_cache() })
    }

    /// Sets the directory below which the cache is; by default the user's.
    #[must_use]
    pub fn with_cache(mut self, dir: PathBuf) -> Self {
        self.cache = Some(dir);
        self
    }

    fn parse(text: &str, url: &Url) -> Result<Self> {
        let scheme = url.scheme();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid(format!("'{text}' has more than a bucket and a prefix")));
        }
        let (store, service) = match scheme {
            "s3" | "s3a" => open_s3(url)?,
            "gs" => open_gcs(url)?,
            "az" | "azure" | "abfs" | "abfss" => open_azure(url)?,
            _ => {
                return Err(Error::unsupported(format!("'{text}': no pond is at a {scheme} URL"))
                    .with_hint("it is a directory, or s3://BUCKET/PREFIX, gs://… or az://…"));
            }
        };
        let remote = Self::new(url.clone(), store)?;
        Ok(Self { service, ..remote })
    }

    /// Returns the URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the store, rooted at the URL's host.
    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Returns the path of the prefix in the store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the store as it looks from `name` below the prefix.
    pub(crate) fn below(&self, name: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.store.clone(), self.root.clone().join(name)))
    }

    /// Returns where the caches of ponds at this URL are, one below the other's name; `None` if the
    /// user has no cache directory.
    pub(crate) fn caches(&self) -> Option<PathBuf> {
        let text = format!("{} {}", self.url, self.service);
        let name = format!("{:032x}", XxHash3_128::oneshot(text.as_bytes()));
        Some(self.cache.as_ref()?.join("ponds").join(name))
    }
}

/// Returns `$XDG_CACHE_HOME/pond`, or what stands for it.
fn user_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let caches = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let caches = caches.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    caches.map(|dir| dir.join("pond"))
}

/// A store, and the service that it asks.
type Opened = (Arc<dyn ObjectStore>, String);

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn refused(url: &Url, error: object_store::Error) -> Error {
    Error::invalid(format!("'{url}'")).with_source(error)
}

/// How long a store that does not answer is asked again: whoever waits wants to know.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn retries() -> object_store::RetryConfig {
    use std::time::Duration;
    object_store::RetryConfig {
        max_retries: 6,
        retry_timeout: Duration::from_secs(30),
        ..object_store::RetryConfig::default()
    }
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn built_without(url: &Url, feature: &str) -> Error {
    Error::unsupported(format!("'{url}': this pond was built without the feature '{feature}'"))
        .with_hint(format!("build it with: cargo build --release --features {feature}"))
}

#[cfg(feature = "s3")]
fn open_s3(url: &Url) -> Result<Opened> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::client::ClientConfigKey;
    let mut builder = AmazonS3Builder::from_env().with_url(url.as_str());
    // An endpoint without TLS is what whoever named it wants.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    if !endpoint.is_empty() && !endpoint.contains("://") {
        return Err(Error::invalid(format!("the endpoint '{endpoint}' for '{url}' is no URL"))
            .with_hint(format!("AWS_ENDPOINT_URL=http://{endpoint}, or with https://")));
    }
    if endpoint.starts_with("http://") {
        builder =
            builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true");
    }
    let store = builder.with_retry(retries()).build().map_err(|error| refused(url, error))?;
    Ok((Arc::new(store), endpoint))
}

#[cfg(not(feature = "s3"))]
fn open_s3(url: &Url) -> Result<Opened> {
    Err(built_without(url, "s3"))
}

#[cfg(feature = "gcs")]
fn open_gcs(url: &Url) -> Result<Opened> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    let builder =
        GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retries());
    Ok((Arc::new(builder.build().map_err(|error| refused(url, error))?), String::new()))
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(url: &Url) -> Result<Opened> {
    Err(built_without(url, "gcs"))
}

#[cfg(feature = "azure")]
fn open_azure(url: &Url) -> Result<Opened> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retries());
    let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
    Ok((Arc::new(builder.build().map_err(|error| refused(url, error))?), account))
}

#[cfg(not(feature = "azure"))]
fn open_azure(url: &Url) -> Result<Opened> {
    Err(built_without(url, "azure"))
}
