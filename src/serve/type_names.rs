//! Types by the names that they have in statements: `bigint`, `timestamp with time zone`, `text[]`.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::values::PgType;

/// Names, the number of the type, and that of its arrays where it is not one that values have here.
const NAMES: &[(&[&str], u32, u32)] = &[
    (&["BOOLEAN", "BOOL"], 16, 0),
    (&["BYTEA"], 17, 0),
    (&["NAME"], 19, 1003),
    (&["BIGINT", "INT8"], 20, 0),
    (&["SMALLINT", "INT2"], 21, 0),
    (&["INTEGER", "INT", "INT4"], 23, 0),
    (&["TEXT"], 25, 0),
    (&["OID"], 26, 0),
    (&["JSON"], 114, 0),
    (&["REAL", "FLOAT4"], 700, 0),
    (&["DOUBLE PRECISION", "DOUBLE", "FLOAT8", "FLOAT"], 701, 0),
    (&["UNKNOWN"], 705, 0),
    (&["CHARACTER", "CHAR", "BPCHAR"], 1042, 1014),
    (&["CHARACTER VARYING", "VARCHAR"], 1043, 1015),
    (&["DATE"], 1082, 0),
    (&["TIME", "TIME WITHOUT TIME ZONE"], 1083, 0),
    (&["TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"], 1114, 0),
    (&["TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"], 1184, 0),
    (&["INTERVAL"], 1186, 0),
    (&["NUMERIC", "DECIMAL"], 1700, 0),
    (&["UUID"], 2950, 2951),
    (&["JSONB"], 3802, 3807),
];

/// Returns the number of the element type of arrays, where it is not one that values have here.
pub(super) fn element_of(array: u32) -> Option<u32> {
    let found = NAMES.iter().find(|(_, _, of)| *of == array && array != 0);
    found.map(|(_, oid, _)| *oid)
}

/// Reads the type that tokens begin with; returns its number, and how many tokens it is. Lengths and
/// precisions are passed over.
pub(super) fn read(tokens: &[&Token]) -> Option<(u32, usize)> {
    let words: Vec<String> = tokens
        .iter()
        .map_while(|token| match token {
            Token::Word(word) => Some(word.value.to_uppercase()),
            _ => None,
        })
        .take(4)
        .collect();
    let find = |count: usize| {
        let name = words[..count].join(" ");
        let found = NAMES.iter().find(|(names, ..)| names.contains(&name.as_str()))?;
        Some((found.1, found.2, count))
    };
    let (oid, array, mut at) = (1..=words.len()).rev().find_map(find)?;
    if let [Token::LParen, rest @ ..] = &tokens[at..] {
        at += 2 + rest.iter().position(|token| **token == Token::RParen)?;
    }
    match tokens.get(at..) {
        Some([Token::LBracket, Token::RBracket, ..]) => {
            let array = match array {
                0 => PgType::array_of(oid)?,
                array => array,
            };
            Some((array, at + 2))
        }
        _ => Some((oid, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_their_names() {
        for (text, expected) in [
            ("int", Some((23, 1))),
            ("timestamp with time zone, int", Some((1184, 4))),
            ("varchar(20)[] )", Some((1015, 6))),
            ("double precision[]", Some((1022, 4))),
            ("decimal(10, 2)", Some((1700, 6))),
            ("nothing", None),
        ] {
            let cuts = crate::sql::cut(text);
            let tokens: Vec<&Token> = cuts[0].tokens.iter().map(|(token, _)| token).collect();
            assert_eq!(read(&tokens), expected, "{text}");
        }
        assert_eq!((element_of(1015), element_of(1016), element_of(0)), (Some(1043), None, None));
    }
}
