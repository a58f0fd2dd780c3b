//! Hints to those who typed a verb: the library's speak SQL, these speak verbs.

use pond::Error;

/// Statements of SQL in hints, and the verbs that do the same.
const SAME: &[(&str, &str)] = &[
    ("use CREATE OR REPLACE NODE", "use --replace"),
    ("OR REPLACE replaces", "--replace replaces"),
    ("SHOW LOG lists", "pond log lists"),
    ("SHOW FACTORIES", "pond sql 'SHOW FACTORIES'"),
    ("remove it with all it holds: RECURSIVE, or rm -r", "remove it with all it holds: pond rm -r"),
];

/// Returns the error with verbs in its hint.
pub fn in_verbs(error: Error) -> Error {
    let Some(hint) = error.hint() else { return error };
    let mut text = hint.to_owned();
    for (statement, verb) in SAME {
        text = text.replace(statement, verb);
    }
    if let Some((before, paths)) = text.split_once("DROP NODE ") {
        let flags = [(" CASCADE", "--cascade "), (" RECURSIVE", "-r ")];
        let mut verb = "pond rm ".to_owned();
        let mut paths = paths.replace("', '", "' '");
        for (clause, flag) in flags {
            if let Some(rest) = paths.strip_suffix(clause) {
                paths = rest.to_owned();
                verb.push_str(flag);
            }
        }
        text = format!("{before}{verb}{paths}");
    }
    if let Some((before, path)) = text.split_once("SELECT * FROM history(") {
        text = format!("{before}pond log {}", path.trim_end_matches(')'));
    }
    if text == hint { error } else { error.with_hint(text) }
}
