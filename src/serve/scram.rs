//! Who may come in: a file of users, and SCRAM-SHA-256 (RFC 5802, RFC 7677), by which a client proves
//! that it knows a password without sending it.
//!
//! Each line of the file is `user:password`, or `user:SCRAM-SHA-256$…`, the verifier that Postgres
//! itself keeps in `pg_authid`. Lines that are empty or begin with `#` say nothing. What stays in memory
//! are verifiers. A user who is not there goes through the same exchange, and fails at its end.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pgwire::api::auth::sasl::scram::gen_salted_password;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::crypto::ring;

use crate::error::{Error, ErrorKind, Result};

/// The name of the method.
pub(super) const METHOD: &str = "SCRAM-SHA-256";

/// How often a password is hashed, as by Postgres.
const ITERATIONS: usize = 4096;

/// The most iterations that a verifier may ask of clients.
const ITERATIONS_MAX: usize = 10_000_000;

type Key = [u8; 32];

/// What is known of a password.
#[derive(Clone)]
struct Verifier {
    salt: Vec<u8>,
    iterations: usize,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    fn of_password(password: &str) -> Result<Self> {
        let salt = random::<16>()?.to_vec();
        let salted = gen_salted_password(password, &salt, ITERATIONS);
        Ok(Self {
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
            salt,
            iterations: ITERATIONS,
        })
    }

    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
    fn parse(text: &str) -> Option<Self> {
        let (iterations, rest) = text.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, server) = keys.split_once(':')?;
        Some(Self {
            salt: from_base64(salt)?,
            iterations: iterations.parse().ok().filter(|it| (1..=ITERATIONS_MAX).contains(it))?,
            stored_key: from_base64(stored)?.try_into().ok()?,
            server_key: from_base64(server)?.try_into().ok()?,
        })
    }
}

/// The users of a server.
pub(super) struct Users {
    verifiers: HashMap<String, Verifier>,
    /// What the salts of users who are not there are made of.
    secret: Key,
    /// How often their passwords are hashed: as often as the first user's.
    iterations: usize,
}

impl Users {
    /// Reads the users of a file.
    ///
    /// # Errors
    /// `Refused` for a file that others may read; `Invalid` for a line that makes no sense, or no user.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        check_secret(path)?;
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::io(format!("'{name}'"), error))?;
        let mut verifiers = HashMap::new();
        let mut first = None;
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || {
                Error::invalid(format!("'{name}', line {}: no user and password", at + 1))
                    .with_hint("a line is user:password, or user:SCRAM-SHA-256$…")
            };
            let (user, secret) = line.split_once(':').ok_or_else(wrong)?;
            if user.is_empty() || secret.is_empty() {
                return Err(wrong());
            }
            let verifier = match secret.strip_prefix("SCRAM-SHA-256$") {
                Some(verifier) => Verifier::parse(verifier).ok_or_else(wrong)?,
                None => Verifier::of_password(secret)?,
            };
            first.get_or_insert(verifier.iterations);
            verifiers.insert(user.to_owned(), verifier);
        }
        let Some(iterations) = first else {
            return Err(Error::invalid(format!("'{name}' names no user"))
                .with_hint("a line is user:password"));
        };
        Ok(Self { verifiers, secret: random()?, iterations })
    }

    /// Answers the first message of a client that says it is `user`.
    ///
    /// # Errors
    /// `Invalid` for what is not of the method.
    pub(super) fn begin(&self, user: &str, first: &[u8]) -> Result<Exchange> {
        let first = std::str::from_utf8(first).map_err(|_| malformed())?;
        let mut parts = first.splitn(3, ',');
        let (binding, _, bare) = match (parts.next(), parts.next(), parts.next()) {
            (Some(binding), Some(identity), Some(bare)) => (binding, identity, bare),
            _ => return Err(malformed()),
        };
        // Bound to a channel is what was not offered.
        if !matches!(binding, "n" | "y") {
            return Err(malformed());
        }
        let header = &first[..first.len() - bare.len()];
        let client_nonce =
            bare.split(',').find_map(|part| part.strip_prefix("r=")).ok_or_else(malformed)?;
        if client_nonce.is_empty() || bare.starts_with("m=") {
            return Err(malformed());
        }
        let nonce = format!("{client_nonce}{}", to_base64(&random::<18>()?));
        let (verifier, is_known) = match self.verifiers.get(user) {
            Some(verifier) => (verifier.clone(), true),
            None => (self.nobody(user), false),
        };
        let server_first =
            format!("r={nonce},s={},i={}", to_base64(&verifier.salt), verifier.iterations);
        Ok(Exchange {
            is_known,
            verifier,
            channel: to_base64(header.as_bytes()),
            said: format!("{bare},{server_first}"),
            nonce,
            server_first,
        })
    }

    /// The same for the same name, as that of a user would be.
    fn nobody(&self, user: &str) -> Verifier {
        Verifier {
            salt: hmac(&self.secret, user.as_bytes())[..16].to_vec(),
            iterations: self.iterations,
            stored_key: self.secret,
            server_key: self.secret,
        }
    }
}

/// An exchange that has begun.
pub(super) struct Exchange {
    is_known: bool,
    verifier: Verifier,
    channel: String,
    /// What was said so far.
    said: String,
    nonce: String,
    server_first: String,
}

impl Exchange {
    /// Returns the first answer.
    pub(super) fn challenge(&self) -> &[u8] {
        self.server_first.as_bytes()
    }

    /// Checks the proof in the last message of the client, and returns the last answer; `None` if it
    /// is wrong.
    ///
    /// # Errors
    /// `Invalid` for what is not of the method.
    pub(super) fn finish(self, last: &[u8]) -> Result<Option<String>> {
        let last = std::str::from_utf8(last).map_err(|_| malformed())?;
        let (without_proof, proof) = last.rsplit_once(",p=").ok_or_else(malformed)?;
        let proof: Key =
            from_base64(proof).and_then(|proof| proof.try_into().ok()).ok_or_else(malformed)?;
        let expected = format!("c={},r={}", self.channel, self.nonce);
        if without_proof != expected && !without_proof.starts_with(&format!("{expected},")) {
            return Err(malformed());
        }
        let said = format!("{},{without_proof}", self.said);
        let signature = hmac(&self.verifier.stored_key, said.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let is_right = is_same(&Sha256::digest(client_key).into(), &self.verifier.stored_key);
        let answer = hmac(&self.verifier.server_key, said.as_bytes());
        Ok((is_right && self.is_known).then(|| format!("v={}", to_base64(&answer))))
    }
}

/// Refuses a file of secrets that others may read.
///
/// # Errors
/// `Refused`; those of looking at it.
pub(super) fn check_secret(path: &Path) -> Result<()> {
    let name = path.display();
    let metadata =
        std::fs::metadata(path).map_err(|error| Error::io(format!("'{name}'"), error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::Refused, format!("'{name}' can be read by others"))
            .with_hint(format!("chmod 600 '{name}'")));
    }
    Ok(())
}

/// Compares in a time that does not tell where the two differ.
fn is_same(left: &Key, right: &Key) -> bool {
    left.iter().zip(right).fold(0, |differs, (left, right)| differs | (left ^ right)) == 0
}

fn malformed() -> Error {
    Error::invalid("a message of authentication makes no sense")
}

/// Returns bytes that nobody can guess.
///
/// # Errors
/// `Io` if the system has none.
pub(super) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    match ring::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Error::new(ErrorKind::Io, "the system has no random numbers")),
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> Key {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    match key.len() > BLOCK {
        true => block[..32].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0u32, |group, (at, byte)| group | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            match at <= chunk.len() {
                true => text.push(BASE64[(group >> (18 - 6 * at)) as usize & 63].into()),
                false => text.push('='),
            }
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::new();
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    for chunk in digits.as_bytes().chunks(4) {
        let mut group = 0u32;
        for (at, digit) in chunk.iter().enumerate() {
            let value = BASE64.iter().position(|known| known == digit)?;
            group |= u32::try_from(value).ok()? << (18 - 6 * at);
        }
        bytes.extend_from_slice(&group.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_hmac_are_those_of_the_standards() {
        for (text, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(text.as_bytes()), expected);
            assert_eq!(from_base64(expected).unwrap(), text.as_bytes());
        }
        assert!(from_base64("Zg=").is_none() && from_base64("Z!==").is_none());
        // RFC 4231, test case 2.
        let hex: String = hmac(b"Jefe", b"what do ya want for nothing?")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn the_exchange_is_that_of_the_standard() {
        // RFC 7677: the user `user` with the password `pencil`.
        let salt = from_base64("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = gen_salted_password("pencil", &salt, 4096);
        let exchange = |is_known| {
            Exchange {
            is_known,
            verifier: Verifier {
                stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
                server_key: hmac(&salted, b"Server Key"),
                salt: salt.clone(),
                iterations: 4096,
            },
            channel: "biws".to_owned(),
            said: "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                   r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .to_owned(),
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            server_first: String::new(),
        }
        };
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let answer = exchange(true).finish(last.as_bytes()).unwrap();
        assert_eq!(answer.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(exchange(false).finish(last.as_bytes()).unwrap().is_none());
        let wrong = last.replace("p=dHz", "p=dHa");
        assert!(exchange(true).finish(wrong.as_bytes()).unwrap().is_none());
    }
}
