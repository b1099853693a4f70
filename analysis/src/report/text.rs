//! The text of a turn as HTML: thought, tool call and answer set apart, everything escaped.

use crate::plot::escape;

/// Tags that the policy writes, with the class of what is between them.
const TAGS: [(&str, &str, &str); 3] =
    [("<think>", "</think>", "think"), ("<tool_call>", "</tool_call>", "call"), ("<answer>", "</answer>", "answer")];

/// Marks the blocks of a turn; tags that do not pair up stay as they are written.
pub(super) fn turn_html(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, open, close, class)) = first_block(rest) {
        let (before, from) = rest.split_at(at);
        let inside = &from[open.len()..];
        let end = inside.find(close).unwrap_or(inside.len());
        let (inside, after) = inside.split_at(end);
        out.push_str(&plain(before));
        let (open, shut) = (escape(open), escape(close));
        let tag = |text: &str| format!(r#"<span class="tag">{text}</span>"#);
        out.push_str(&format!(r#"<span class="{class}">{}{}{}</span>"#, tag(&open), escape(inside), tag(&shut)));
        rest = after.get(close.len()..).unwrap_or_default();
    }
    out.push_str(&plain(rest));
    out
}

/// The first block whose tags pair up: where it begins, and its tags.
fn first_block(text: &str) -> Option<(usize, &'static str, &'static str, &'static str)> {
    let found = TAGS.iter().filter_map(|&(open, close, class)| {
        let at = text.find(open)?;
        text[at..].contains(close).then_some((at, open, close, class))
    });
    found.min_by_key(|block| block.0)
}

fn plain(text: &str) -> String {
    if text.trim().is_empty() { escape(text) } else { format!("<span>{}</span>", escape(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_marked_and_text_is_escaped() {
        let html = turn_html("<think>a<b</think><tool_call>{\"x\":1}</tool_call> & <answer>7</answer>");
        let tag = |text: &str| format!(r#"<span class="tag">{text}</span>"#);
        let expected = [
            format!(r#"<span class="think">{}a&lt;b{}</span>"#, tag("&lt;think&gt;"), tag("&lt;/think&gt;")),
            format!(
                r#"<span class="call">{}{{&quot;x&quot;:1}}{}</span>"#,
                tag("&lt;tool_call&gt;"),
                tag("&lt;/tool_call&gt;")
            ),
            "<span> &amp; </span>".to_owned(),
            format!(r#"<span class="answer">{}7{}</span>"#, tag("&lt;answer&gt;"), tag("&lt;/answer&gt;")),
        ];
        assert_eq!(html, expected.concat());
    }

    #[test]
    fn broken_tags_stay_text() {
        for text in ["<answer>7", "7</answer>", "<think><answer>", "<script>alert(1)</script>", "ä<think>ö</think>"] {
            let html = turn_html(text);
            crate::report::wellformed::check(&html).unwrap();
            assert!(!html.contains("<script") && !html.contains("<think>"), "{html}");
        }
        assert_eq!(turn_html("<answer>7"), "<span>&lt;answer&gt;7</span>");
    }
}
