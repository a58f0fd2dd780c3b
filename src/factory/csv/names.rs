//! What the children of a `csv_directory` are called.
//!
//! A child has the name of its file without the endings: `sales.csv.gz` is `sales`. Of two in one
//! directory that would share that name, each keeps its endings: `sales.csv`, `sales.tsv`. Of two in
//! different directories, each has the names of as many directories before its own as tell it from
//! all others: `north-sales`, `south-sales`. What then still reads alike has a digest of its path at
//! its end.
//!
//! A name depends on those that it collides with and on no other, and not on the order in which the
//! files are found, so that one more file renames only what it collides with.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use sha2::{Digest, Sha256};

use crate::path::{NAME_BYTES_MAX, PondPath};

/// The endings of compressed files.
const COMPRESSIONS: [&str; 4] = [".gz", ".zst", ".bz2", ".xz"];
/// Room for the ending of a child and for what tells long names apart.
const SPARE_BYTES: usize = 100;

/// Returns the names, without an ending, of the files at `paths`, all of which are below `base` and
/// different, in their order.
pub(super) fn name_all(base: &PondPath, paths: &[PondPath]) -> Vec<String> {
    let skipped = base.names().count();
    let directories: Vec<Vec<&str>> = paths
        .iter()
        .map(|path| {
            let names: Vec<&str> = path.names().skip(skipped).collect();
            names.split_last().map_or_else(Vec::new, |(_, above)| above.to_vec())
        })
        .collect();
    let own = own_names(paths, &directories);
    let mut names: Vec<String> = vec![String::new(); paths.len()];
    let mut is_short = vec![false; paths.len()];
    for group in groups(paths.iter().map(|path| stem(path.name()))).values() {
        let depths = depths(group.iter().map(|&file| directories[file].as_slice()).collect());
        for &file in group {
            let above = &directories[file];
            let depth = depths[above.as_slice()];
            let mut parts = above[above.len() - depth..].to_vec();
            parts.push(own[file]);
            names[file] = parts.join("-");
            is_short[file] = depth == 0;
        }
    }
    tell_apart(&mut names, &is_short, paths);
    names
}

/// Returns what each file is called among those of its directory.
fn own_names<'a>(paths: &'a [PondPath], directories: &[Vec<&str>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = paths.iter().map(|path| stem(path.name())).collect();
    // A whole name may be what another one is without its endings: until nothing changes.
    loop {
        let keys = directories.iter().zip(names.iter().copied());
        let mut changed = false;
        for group in groups(keys).values().filter(|group| group.len() > 1) {
            for &file in group {
                changed |= names[file] != paths[file].name();
                names[file] = paths[file].name();
            }
        }
        if !changed {
            return names;
        }
    }
}

/// Returns the places of equal keys.
fn groups<K: Eq + Hash>(keys: impl IntoIterator<Item = K>) -> HashMap<K, Vec<usize>> {
    let mut groups: HashMap<K, Vec<usize>> = HashMap::new();
    for (place, key) in keys.into_iter().enumerate() {
        groups.entry(key).or_default().push(place);
    }
    groups
}

/// Returns how many of its last names tell each of these directories from the others; all of them
/// where it takes more.
fn depths<'a, 'b>(directories: HashSet<&'b [&'a str]>) -> HashMap<&'b [&'a str], usize> {
    let mut depths: HashMap<&[&str], usize> = HashMap::new();
    if let (1, Some(only)) = (directories.len(), directories.iter().next()) {
        depths.insert(only, 0);
    }
    let mut depth = 0;
    while depths.len() < directories.len() {
        let end = |directory: &&'b [&'a str]| &directory[directory.len().saturating_sub(depth)..];
        // Compared with all, not only with those that are left.
        let mut count: HashMap<&[&str], usize> = HashMap::new();
        for directory in &directories {
            *count.entry(end(directory)).or_default() += 1;
        }
        for directory in &directories {
            if count[end(directory)] == 1 || directory.len() <= depth {
                depths.entry(directory).or_insert(depth);
            }
        }
        depth += 1;
    }
    depths
}

/// Gives those that still read alike a digest of their path. Names of no directory stay.
fn tell_apart(names: &mut [String], is_short: &[bool], paths: &[PondPath]) {
    let room = NAME_BYTES_MAX - SPARE_BYTES;
    let mut taken: HashSet<String> = HashSet::new();
    let mut unclear = Vec::new();
    for (name, files) in groups(names.iter().cloned()) {
        let mut short = files.iter().filter(|file| is_short[**file]);
        let keeps = match (files.as_slice(), short.next(), short.next()) {
            _ if name.len() > room => None,
            ([only], _, _) => Some(*only),
            (_, Some(only), None) => Some(*only),
            _ => None,
        };
        unclear.extend(files.into_iter().filter(|file| Some(*file) != keeps));
        if keeps.is_some() {
            taken.insert(name);
        }
    }
    unclear.sort_by(|left, right| paths[*left].cmp(&paths[*right]));
    for file in unclear {
        let digest = Sha256::digest(paths[file].as_str());
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let end = names[file].floor_char_boundary(room);
        let start = names[file][..end].to_owned();
        let named = (8..=digest.len())
            .step_by(8)
            .map(|digits| format!("{start}-{}", &digest[..digits]))
            .find(|name| !taken.contains(name))
            .unwrap_or_else(|| format!("{start}-{digest}"));
        taken.insert(named.clone());
        names[file] = named;
    }
}

/// Returns a name without its ending, and without that of a compression behind it.
fn stem(name: &str) -> &str {
    let ends = |ending: &&&str| {
        name.len() > ending.len()
            && name.is_char_boundary(name.len() - ending.len())
            && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
    };
    let plain = match COMPRESSIONS.iter().find(ends) {
        Some(ending) => &name[..name.len() - ending.len()],
        None => name,
    };
    match plain.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[&str]) -> Vec<String> {
        let paths: Vec<PondPath> =
            paths.iter().map(|path| PondPath::parse(path).unwrap()).collect();
        let names = name_all(&PondPath::parse("/r").unwrap(), &paths);
        let mut reversed: Vec<PondPath> = paths.clone();
        reversed.reverse();
        let mut again = name_all(&PondPath::parse("/r").unwrap(), &reversed);
        again.reverse();
        assert_eq!(names, again, "the order matters");
        let unique: HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        names
    }

    #[test]
    fn endings_go() {
        for (name, expected) in [
            ("sales.csv", "sales"),
            ("sales.csv.gz", "sales"),
            ("SALES.CSV.GZ", "SALES"),
            ("a.b.tsv", "a.b"),
            ("data", "data"),
            ("data.gz", "data"),
            (".csv", ".csv"),
            (".x.csv", ".x"),
            (".gz", ".gz"),
            ("é.csv", "é"),
            ("a\\xff.csv", "a\\xff"),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
    }

    #[test]
    fn those_that_collide_are_told_apart_and_no_others() {
        assert_eq!(names(&["/r/a.csv", "/r/b.csv"]), ["a", "b"]);
        assert_eq!(names(&["/r/a.csv", "/r/a.tsv", "/r/b.csv"]), ["a.csv", "a.tsv", "b"]);
        assert_eq!(names(&["/r/a.csv", "/r/a.csv.gz"]), ["a.csv", "a.csv.gz"]);
        let all = names(&["/r/a.csv", "/r/a.tsv", "/r/a.csv.csv"]);
        assert_eq!(all, ["a.csv", "a.tsv", "a.csv.csv"]);
        assert_eq!(names(&["/r/x/a.csv", "/r/y/a.csv"]), ["x-a", "y-a"]);
        assert_eq!(names(&["/r/x/a.csv", "/r/y/a.csv", "/r/z/a.csv"]), ["x-a", "y-a", "z-a"]);
        assert_eq!(names(&["/r/a.csv", "/r/x/a.csv"]), ["a", "x-a"]);
        assert_eq!(names(&["/r/x/a.csv", "/r/w/x/a.csv", "/r/y/a.csv"]), ["x-a", "w-x-a", "y-a"]);
        let all = names(&["/r/x/a.csv", "/r/x/a.tsv", "/r/y/a.csv"]);
        assert_eq!(all, ["x-a.csv", "x-a.tsv", "y-a"]);
    }

    #[test]
    fn what_reads_alike_has_a_digest() {
        let all = names(&["/r/x/a.csv", "/r/y/a.csv", "/r/x-a.csv"]);
        assert_eq!((all[1].as_str(), all[2].as_str()), ("y-a", "x-a"));
        assert!(all[0].starts_with("x-a-") && all[0].len() == 12, "{all:?}");
        let all = names(&["/r/x-y/a.csv", "/r/x/y/a.csv", "/r/q/y/a.csv"]);
        assert!(all[0].starts_with("x-y-a-") && all[1].starts_with("x-y-a-"), "{all:?}");
        let all = names(&["/r/x/a.csv", "/r/x/a.tsv", "/r/y/a.csv.csv"]);
        assert!(all[0].starts_with("a.csv-") && all[2].starts_with("a.csv-"), "{all:?}");
        let long = "d".repeat(250);
        let deep = format!("/r/{long}/{long}/{long}/{long}/{long}/a.csv");
        let other = format!("/r/{long}/{long}/{long}/{long}/{}/a.csv", "e".repeat(250));
        assert!(names(&[&deep, &other]).iter().all(|name| name.len() < NAME_BYTES_MAX));
        let under = format!("/r/1/{long}/{long}/{long}/{long}/{long}/a.csv");
        let beside = format!("/r/2/{long}/{long}/{long}/{long}/{long}/a.csv");
        assert!(names(&[&under, &beside]).iter().all(|name| name.len() < NAME_BYTES_MAX));
    }
}
