//! A strict check of the HTML and SVG that this crate writes, for its tests.

const VOID: [&str; 6] = ["meta", "link", "br", "img", "input", "hr"];

/// Checks that tags pair up, attributes are quoted and unique, ids are unique, and no `<` or `&` stands bare.
pub(crate) fn check(html: &str) -> Result<(), String> {
    let mut rest = html.strip_prefix("<!doctype html>").unwrap_or(html);
    let (mut open, mut ids) = (Vec::new(), std::collections::BTreeSet::new());
    while let Some((text, after)) = rest.split_once('<') {
        entities(text)?;
        let end = tag_end(after).ok_or_else(|| format!("unclosed tag at {:?}", head(after)))?;
        let tag = &after[..end];
        rest = &after[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let expected: Option<String> = open.pop();
            if expected.as_deref() != Some(name) {
                return Err(format!("</{name}> closes {expected:?} before {:?}", head(rest)));
            }
            continue;
        }
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag.trim_end_matches('/'), ""));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("bare < before {:?}", head(after)));
        }
        for (key, value) in parse_attributes(attributes.trim_end_matches('/'))? {
            entities(&value)?;
            if key == "id" && !ids.insert(value.clone()) {
                return Err(format!("id {value} twice"));
            }
        }
        if name == "script" || name == "style" {
            let close = format!("</{name}>");
            rest = rest.split_once(&close).ok_or("unclosed raw text")?.1;
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name.to_owned());
        }
    }
    entities(rest)?;
    if open.is_empty() { Ok(()) } else { Err(format!("never closed: {open:?}")) }
}

fn head(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Where the tag ends, quotes taken into account.
fn tag_end(text: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(i, c)| {
        quoted ^= c == '"';
        (c == '>' && !quoted).then_some(i)
    })
}

fn parse_attributes(mut text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Ok(found);
        }
        let end = text.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(text.len());
        let (key, rest) = text.split_at(end);
        let mut value = "";
        text = rest;
        if let Some(quoted) = rest.strip_prefix('=') {
            let inner = quoted.strip_prefix('"').ok_or_else(|| format!("unquoted {key}"))?;
            (value, text) = inner.split_once('"').ok_or_else(|| format!("unclosed {key}"))?;
        }
        if key.contains(['"', '<']) || found.iter().any(|(known, _)| known == key) {
            return Err(format!("attribute {key:?} is broken or twice"));
        }
        found.push((key.to_owned(), value.to_owned()));
    }
}

fn entities(text: &str) -> Result<(), String> {
    let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
    let bare = text.split('&').skip(1).find(|after| !known.iter().any(|name| after.starts_with(name)));
    bare.map_or(Ok(()), |after| Err(format!("bare & before {:?}", head(after))))
}

#[test]
fn the_check_finds_what_is_wrong() {
    let good = "<!doctype html><p id=\"a\" hidden>x &amp; y<br><img src=\"a>b\"/></p><script>1<2</script>";
    check(good).unwrap();
    for bad in [
        "<p>",
        "<p></b>",
        "a < b",
        "a & b",
        "<p x=1></p>",
        "<p a=\"1\" a=\"2\"></p>",
        "<b id=\"x\"></b><b id=\"x\"></b>",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
