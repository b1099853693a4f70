//! Rows as people write them: blank options, boxes that are none, names of images in prose, several tables in a folder.

use super::*;

fn dataset(files: &[(&str, String)]) -> TempDir {
    with_images(&["a.jpg", "b.jpg"], files)
}

fn muir(options: Value) -> TempDir {
    let row = json!({"task": "t", "question": "Which?", "options": options, "answer": "B", "image_list": ["a.jpg"]});
    dataset(&[("t.json", json!([row]).to_string())])
}

#[test]
fn a_blank_option_keeps_its_letter_or_is_refused() {
    for options in
        [json!(["", "a dog", "two"]), json!(["x", null, "z"]), json!([["x"], "y", "z"]), json!(["x", " ", "z"])]
    {
        let found = problems(muir(options).path(), None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_has(&found[0], &["t.json:1: option ", "`options`", "blank or no text"]);
    }
    let dir = muir(json!(["x", 4, "", null]));
    assert_eq!(open(dir.path(), None).unwrap().entry(0).unwrap().options, ["x", "4"], "nothing after the last counts");
}

#[test]
fn an_answer_of_our_own_is_what_it_says_or_looks_like() {
    let row = |answer: &str, meta: Value| {
        let row = json!({"id": "x", "images": ["a.jpg", "b.jpg"], "question": "q", "answer": answer, "meta": meta});
        let dir = dataset(&[("samples.jsonl", row.to_string())]);
        open(dir.path(), None).unwrap().entry(0).unwrap()
    };
    let [first, second] = [[1.0, 2.0, 9.4, 8.0], [3.0, 1.0, 12.0, 6.0]];
    let gold = json!([{"image": 2, "bbox": first}, {"image": 1, "bbox": second}]);
    let answer = r#"{"image": 2, "bbox_2d": [1, 2, 9, 8]}"#;
    for meta in [json!({"answer_kind": "box", "gold": gold}), json!({"gold": gold})] {
        let entry = row(answer, meta);
        let Answer::Box(Region { image, corners, .. }) = entry.answer else { panic!("{:?}", entry.answer) };
        assert_eq!((image, corners, entry.gold.len()), (Some(2), first, 1), "the exact box of the two");
        assert_eq!(entry.gold[0].corners, second);
    }
    let entry = row(answer, json!({"answer_kind": "box"}));
    assert!(matches!(entry.answer, Answer::Box(Region { image: Some(2), corners: [1.0, 2.0, 9.0, 8.0], .. })));
    assert!(matches!(row("[1, 2, 9, 8]", json!({})).answer, Answer::Text(_)), "four numbers");
    let options = json!({"answer_kind": "choice", "options": ["red", "blue"]});
    assert_eq!(row("blue", options.clone()).answer, Answer::Choice('B'));
    assert_eq!(row("A", options).answer, Answer::Choice('A'));
}

#[test]
fn a_box_that_is_none_is_not_imported() {
    let row = |edges: [f64; 4]| json!({"task": "t", "images": ["a.jpg"], "question": "In image 1. ", "answer": edges, "need_format": true});
    let rows = json!([row([0.1, 0.1, 0.5, 0.5]), row([0.5, 0.6, 0.1, 0.2])]);
    let dir = dataset(&[("t.json", rows.to_string())]);
    assert_eq!(open(dir.path(), None).unwrap().entry(0).unwrap().question, "In image 1. ", "with its blank");
    let out = dir.path().join("out");
    let error = import(dir.path(), of(None), &out, &mut Err, &mut |_| ()).unwrap_err().to_string();
    assert_has(&error, &["t-000001", "is no box"]);
    assert_eq!(import(dir.path(), of(None), &out, &mut |_| Ok(()), &mut |_| ()).unwrap().samples, 1);
}

#[test]
fn calls_are_kept_with_what_is_said() {
    let call = json!([{"id": "1", "type": "function", "function": {"name": "zoom_in", "arguments": "{}"}}]);
    let said = |content: Value, calls: Value| {
        let messages =
            json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": content, "tool_calls": calls}]);
        let dir = dataset(&[("t.json", json!([{"images": ["a.jpg"], "messages": messages}]).to_string())]);
        let opened = open(dir.path(), None);
        opened
            .map(|dataset| dataset.entry(0).unwrap().conversation[1].content.clone())
            .map_err(|error| error.to_string())
    };
    for (content, before) in [(json!(null), ""), (json!(""), ""), (json!("I look."), "I look.\n")] {
        assert_eq!(said(content, call.clone()), Ok(format!("{before}{call}")));
    }
    assert_eq!(said(json!("Yes"), json!(null)), Ok("Yes".into()));
    assert_has(&said(json!(null), json!(null)).unwrap_err(), &["messages[1] has no content"]);
}

#[test]
fn what_is_left_out_is_said_and_splits_are_told_by_any_case() {
    let row =
        json!({"images": ["a.jpg"], "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]});
    let of_type = json!({"type": "t", "images": ["a.jpg"], "conversations": row["conversations"]});
    let dir = dataset(&[("a.json", json!([of_type]).to_string()), ("b.json", json!([row]).to_string())]);
    let mut warned = Vec::new();
    let counted = survey(dir.path(), of(None), &mut |finding| {
        if let Finding::Warning(error) = finding {
            warned.push(error.to_string());
        }
    });
    assert_eq!((counted.unwrap().rows, warned.len()), (1, 1));
    assert_has(&warned[0], &["b.json: is left out", "`mgrounding`"]);
    let splits = dataset(&[("Train.json", json!([row]).to_string()), ("Test.json", json!([row]).to_string())]);
    assert_has(&open(splits.path(), None).unwrap_err().to_string(), &["holds the splits test, train"]);
}

#[test]
fn images_may_have_names_without_an_ending() {
    let row = |image: &str| json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let rows = json!([row("sub/0001"), row("sub/0002"), row(&base64(9))]);
    let dir = with_images(&["sub/0001"], &[("t.json", rows.to_string())]);
    let found = problems(dir.path(), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_has(&found[0], &["t.json:row 2", "\"sub/0002\" is neither a file of the dataset nor an image in base64"]);
    let dataset = open(dir.path(), None).unwrap();
    assert_eq!([0, 2].map(|n| shades(&dataset.sample(n).unwrap())), [[1], [9]]);
}

#[test]
fn a_table_without_rows_or_columns_is_named() {
    for (text, part) in [("[]", "t.json has no rows"), ("", "t.json has no rows"), ("[{}]", "t.json has no columns")] {
        let dir = place(&[("t.json", text.as_bytes())]);
        assert_has(&open(dir.path(), None).unwrap_err().to_string(), &[part]);
    }
}

#[test]
fn prompts_of_verl_may_have_parts() {
    let prompt = |content: Value| {
        let row = json!({"data_source": "geo", "prompt": [{"role": "user", "content": content}], "images": ["a.jpg", "b.jpg"],
            "reward_model": {"style": "rule", "ground_truth": "4"}});
        dataset(&[("t.jsonl", row.to_string())])
    };
    let text = json!({"type": "text", "text": " How many in "});
    let dir = prompt(json!([{"type": "image"}, text, {"type": "image", "image": "b.jpg"}]));
    let sample = open(dir.path(), None).unwrap().sample(0).unwrap();
    assert_eq!((sample.question.as_str(), shades(&sample)), ("How many in image 2", vec![1, 2]));
    assert_has(
        &problems(prompt(json!([{"type": "video"}])).path(), None)[0],
        &["t.jsonl:1: `prompt` has no message of the user"],
    );
}

#[test]
fn an_image_beside_its_table_is_taken_before_one_of_the_same_name_above() {
    let row = |image: &str| json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let rows = [row("images/a.png"), row("images/b.png")].map(|row| row.to_string()).join("\n");
    let dir = with_images(&["images/a.png", "sub/images/a.png", "images/b.png"], &[("sub/d.jsonl", rows)]);
    for (path, position, shade) in [("", 0, 2), ("sub", 0, 2), ("", 1, 3)] {
        let found = open(&dir.path().join(path), None);
        match found {
            Ok(dataset) => assert_eq!(shades(&dataset.sample(position).unwrap()), [shade], "{path:?}"),
            // From below, the image above is outside.
            Err(error) => assert_has(&error.to_string(), &["d.jsonl:2", "images/b.png"]),
        }
    }
}

#[test]
fn a_row_behind_the_limit_is_not_read() {
    let row = |image: &str| json!({"images": [image], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let dir = dataset(&[("t.json", json!([row("a.jpg"), row("b.jpg"), row("gone.jpg")]).to_string())]);
    let first = |limit| super::super::open(dir.path(), Select { limit: Some(limit), ..Select::default() });
    assert_eq!(first(2).unwrap().len(), 2);
    assert_has(&first(3).unwrap_err().to_string(), &["t.json:row 3"]);
    let made =
        import(dir.path(), Select { limit: Some(2), ..of(None) }, &dir.path().join("own"), &mut Err, &mut |_| ());
    assert_eq!(made.unwrap().samples, 2);
    let own = super::super::open(&dir.path().join("own"), Select { limit: Some(1), ..Select::default() });
    assert_eq!(own.unwrap().len(), 1);
}

#[test]
fn tsv_has_lists_and_its_lines_may_end_in_two_bytes() {
    let said =
        json!([{"from": "human", "value": "<image>q"}, {"from": "gpt", "value": "a"}]).to_string().replace('"', "\"\"");
    let good = format!("[\"\"a.jpg\"\"]\"\t\"{said}\"");
    for end in ["\n", "\r\n"] {
        let rows = [
            "images\tconversations".to_owned(),
            format!("\"{good}"),
            "gone.jpg\t[]".into(),
            format!("\"{good}"),
            "x".into(),
        ];
        let dir = dataset(&[("t.tsv", rows.join(end) + end)]);
        let found = problems(dir.path(), None);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_has(&found[0], &["t.tsv:3: "]);
        assert_has(&found[1], &["t.tsv:5: 1 cells"]);
    }
}

#[test]
fn lists_of_numbers_in_tsv_are_texts() {
    let row = format!("0\tq\tA\tsingle\t[1, 2]\t[]\t[[3]]\td\t0\t{}\n", base64(1));
    let dir = place(&[("hr_bench_4k.tsv", [HR_HEAD, &row].concat().as_bytes())]);
    assert_eq!(open(dir.path(), None).unwrap().entry(0).unwrap().options, ["[1, 2]", "[]", "[[3]]", "d"]);
}

#[test]
fn lines_that_break_off_end_the_reading() {
    let row = json!({"images": ["a.jpg"], "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).to_string();
    let dir = dataset(&[("t.jsonl", format!("{row}\n{}", &row[..30]))]);
    let made = import(dir.path(), of(None), &dir.path().join("own"), &mut |_| Ok(()), &mut |_| ());
    assert_has(&made.unwrap_err().to_string(), &["t.jsonl:2: the file ends within a row"]);
    // Also of a table in tsv whose last row lacks cells or the end of a quote, and of a folder of ours.
    let head = "images\tconversations\n";
    for text in [format!("{head}a.jpg\t[]\na.jp"), format!("{head}a.jpg\t[]\n\"a.jpg\t[]\na.jpg\t[]\n")] {
        let dir = dataset(&[("t.tsv", text)]);
        assert_has(
            problems(dir.path(), None).last().unwrap(),
            &["t.tsv:3: the file ends within a row; no row after it"],
        );
    }
    let own = json!({"id": "x", "images": ["a.jpg"], "question": "q", "answer": "a"}).to_string();
    let dir = dataset(&[("samples.jsonl", format!("{own}\n{}", &own[..20]))]);
    let made = import(dir.path(), of(None), &dir.path().join("own"), &mut |_| Ok(()), &mut |_| ());
    assert_has(&made.unwrap_err().to_string(), &["samples.jsonl:2: the file ends within a row"]);
    // What is whole and no object is a bad row.
    let dir = dataset(&[("t.jsonl", format!("{row}\n[1]"))]);
    assert_has(&problems(dir.path(), None)[0], &["t.jsonl:2: not a JSON object"]);
    let lost = row.replace("\"q\"", r#"[{"type": "text", "said": "q"}]"#);
    assert_has(
        &problems(dataset(&[("t.jsonl", lost)]).path(), None)[0],
        &["messages[0] has a part of text without one"],
    );
    let one = row
        .replace("\"images\": [\"a.jpg\"]", "\"image\": \"a.jpg\"")
        .replace("\"images\":[\"a.jpg\"]", "\"image\":\"a.jpg\"");
    assert_eq!(open(dataset(&[("t.jsonl", one)]).path(), None).unwrap().sample(0).unwrap().images.len(), 1);
}

#[test]
fn an_image_that_was_assumed_is_told_from_one_that_was_named() {
    let row = json!({"images": ["a.jpg", "b.jpg"], "type": "t", "conversations": [{"from": "human", "value": "Find the dog."},
        {"from": "gpt", "value": "<|box_start|>(100,100),(500,500)<|box_end|>"}]});
    let dir = dataset(&[("t.json", json!([row]).to_string())]);
    import(dir.path(), of(None), &dir.path().join("own"), &mut Err, &mut |_| ()).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("own")] {
        let dataset = open(&path, None).unwrap();
        let Answer::Box(Region { image, .. }) = dataset.entry(0).unwrap().answer else { panic!("a box") };
        assert_eq!(image, None);
        assert_eq!(dataset.sample(0).unwrap().gold[0].image, 2);
    }
    // A box on an image that the question does not show cannot be imported.
    let row = json!({"id": "x", "images": ["a.jpg", "b.jpg"], "question": "q", "answer": r#"{"image": 2, "bbox_2d": [1, 1, 4, 4]}"#,
        "meta": {"conversation": [{"role": "user", "content": "<image>q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "<image>"}]}});
    let dir = dataset(&[("samples.jsonl", row.to_string())]);
    assert_has(&problems(dir.path(), None)[0], &["`answer` is on image 2, which is none of the sample's 1"]);
    let made = import(dir.path(), of(None), &dir.path().join("own"), &mut Err, &mut |_| ());
    assert_has(&made.unwrap_err().to_string(), &["\"x\"", "a box is on image 2, the question is asked with 1"]);
}
