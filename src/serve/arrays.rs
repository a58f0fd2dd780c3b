//! Arrays as Postgres writes them: `{1,NULL,"a b",{2}}`.

/// How deep arrays may be in arrays.
pub(super) const DEPTH_MAX: usize = 6;

/// How many elements an array may have, those of its arrays included.
pub(super) const ELEMENTS_MAX: usize = 100_000;

/// An element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    Null,
    Text(String),
    List(Vec<Element>),
}

/// Reads an array. Bounds, as in `[2:3]={1,2}`, are passed over: arrays begin at 1 here.
pub(super) fn parse(text: &str) -> Option<Vec<Element>> {
    let text = text.trim();
    let text = match text.strip_prefix('[') {
        Some(_) => text.split_once('=')?.1.trim_start(),
        None => text,
    };
    let mut rest = text.strip_prefix('{')?;
    let mut left = ELEMENTS_MAX;
    let list = elements(&mut rest, 1, &mut left)?;
    rest.trim().is_empty().then_some(list)
}

/// Reads elements up to the brace that closes them.
fn elements(rest: &mut &str, depth: usize, left: &mut usize) -> Option<Vec<Element>> {
    let mut list = Vec::new();
    *rest = rest.trim_start();
    if let Some(behind) = rest.strip_prefix('}') {
        *rest = behind;
        return Some(list);
    }
    loop {
        *rest = rest.trim_start();
        *left = left.checked_sub(1)?;
        list.push(element(rest, depth, left)?);
        *rest = rest.trim_start();
        let end = rest.chars().next()?;
        *rest = &rest[end.len_utf8()..];
        match end {
            ',' => {}
            '}' => return Some(list),
            _ => return None,
        }
    }
}

fn element(rest: &mut &str, depth: usize, left: &mut usize) -> Option<Element> {
    if let Some(behind) = rest.strip_prefix('{') {
        *rest = behind;
        let list = (depth < DEPTH_MAX).then(|| elements(rest, depth + 1, left));
        return list.flatten().map(Element::List);
    }
    let is_quoted = rest.starts_with('"');
    let mut text = String::new();
    // The last character that is no blank at the end.
    let mut kept = 0;
    let mut has_escape = false;
    let mut chars = rest.char_indices().skip(usize::from(is_quoted));
    while let Some((at, char)) = chars.next() {
        match char {
            '"' if is_quoted => {
                *rest = &rest[at + 1..];
                return Some(Element::Text(text));
            }
            '\\' => {
                text.push(chars.next()?.1);
                kept = text.len();
                has_escape = true;
            }
            ',' | '}' if !is_quoted => {
                *rest = &rest[at..];
                text.truncate(kept);
                return match text.is_empty() {
                    true => None,
                    false if !has_escape && text.eq_ignore_ascii_case("null") => {
                        Some(Element::Null)
                    }
                    false => Some(Element::Text(text)),
                };
            }
            '{' | '"' if !is_quoted => return None,
            char => {
                text.push(char);
                if !char.is_whitespace() {
                    kept = text.len();
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_as_postgres_writes_them() {
        let text = |text: &str| Element::Text(text.to_owned());
        for (array, expected) in [
            ("{}", Some(vec![])),
            (" { 1 , 2 } ", Some(vec![text("1"), text("2")])),
            (
                "{a b,NULL,\"NULL\",\"\"}",
                Some(vec![text("a b"), Element::Null, text("NULL"), text("")]),
            ),
            ("{\"a\\\"b\\\\,}\",\\N}", Some(vec![text("a\"b\\,}"), text("N")])),
            (
                "{{1,2},{3}}",
                Some(vec![
                    Element::List(vec![text("1"), text("2")]),
                    Element::List(vec![text("3")]),
                ]),
            ),
            ("[0:1]={1,2}", Some(vec![text("1"), text("2")])),
            ("{1,2", None),
            ("{1,,2}", None),
            ("{1}x", None),
            ("1,2", None),
            ("{\"a\"b}", None),
            ("{{{{{{{1}}}}}}}", None),
        ] {
            assert_eq!(parse(array), expected, "{array}");
        }
    }
}
