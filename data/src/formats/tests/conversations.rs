//! Conversations with images anywhere: in a column, in later turns, within messages, in parquet.

use imagent_core::Role::{self, Assistant, System, Tool, User};
use imagent_core::Sample;

use super::*;

/// The shades of the images of the turns after the question.
fn later_shades(sample: &Sample) -> Vec<u8> {
    let later = Sample { images: sample.later_images.clone(), ..sample.clone() };
    shades(&later)
}

#[test]
fn conversations_keep_all_turns() {
    let sharegpt = json!({"id": 1, "image": "a.jpg", "system": "Be short.", "conversations": [
        {"from": "human", "value": "<image>\nWhat?"}, {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "seen"},
        {"from": "gpt", "value": "A cup."}, {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]});
    let dir = with_images(&["a.jpg"], &[("train.jsonl", format!("{sharegpt}\r\n"))]);
    let entry = open(dir.path(), None).unwrap().entry(0).unwrap();
    assert_eq!((entry.question.as_str(), entry.answer), ("What?", Answer::Text("A cup.".into())));
    let roles: Vec<Role> = entry.conversation.iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [System, User, Assistant, Tool, Assistant, User, Assistant]);

    let address = format!("data:image/png;base64,{}", base64(7));
    let openai = json!({"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": "a.jpg"}}]},
        {"role": "assistant", "content": "A cup."}]});
    fs::write(dir.path().join("train.jsonl"), openai.to_string()).unwrap();
    let dataset = open(dir.path(), None).unwrap();
    assert_eq!((dataset.format(), shades(&dataset.sample(0).unwrap())), ("openai", vec![7, 1]));
    assert_eq!(dataset.sample(0).unwrap().question, "What?image 2");
}

#[test]
fn images_of_later_turns_are_kept_beside_the_questions() {
    let names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"];
    let zoomed = json!({"images": names, "conversations": [
        {"from": "human", "value": "<image>\nWhat is in <image>?"}, {"from": "function_call", "value": "zoom"},
        {"from": "observation", "value": "<image>"}, {"from": "gpt", "value": "A cup."},
        {"from": "human", "value": "And <image>?"}, {"from": "gpt", "value": "A dog."}]});
    let greeted = json!({"images": names[..2], "system": "Like <image>.", "conversations": [
        {"from": "human", "value": "Hello."}, {"from": "gpt", "value": "Hello!"},
        {"from": "human", "value": "What is in <image>?"}, {"from": "gpt", "value": "A cup."}]});
    let dir = with_images(&names, &[("t.json", json!([zoomed, greeted]).to_string())]);
    assert_eq!(problems(dir.path(), None), Vec::<String>::new());
    let published = open(dir.path(), None).unwrap();
    import(dir.path(), of(None), &dir.path().join("own"), &mut Err, &mut |_| ()).unwrap();
    let own = open(&dir.path().join("own"), None).unwrap();
    assert_eq!(problems(&dir.path().join("own"), None), Vec::<String>::new());
    for dataset in [&published, &own] {
        let [zoomed, greeted] = [0, 1].map(|n| dataset.sample(n).unwrap());
        assert_eq!((zoomed.question.as_str(), zoomed.answer.as_str()), ("What is in image 2?", "A cup."));
        assert_eq!((shades(&zoomed), later_shades(&zoomed)), (vec![1, 2], vec![3, 4]));
        assert_eq!((greeted.question.as_str(), greeted.answer.as_str()), ("What is in image 2?", "A cup."));
        assert_eq!((shades(&greeted), later_shades(&greeted)), (vec![1, 2], vec![]));
        assert_eq!(dataset.entry(0).unwrap().conversation.len(), 6);
        assert_eq!(dataset.prefetch(0).len(), 2, "a question asks for its own images");
    }
    assert_eq!(format!("{:?}", own.sample(0).unwrap()), format!("{:?}", published.sample(0).unwrap()));
}

#[test]
fn what_a_row_of_ours_says_goes_with_the_questions_images() {
    let row = |meta: Value, answer: &str| {
        let row = json!({"id": "x", "images": ["a.jpg", "b.jpg"], "question": "q", "answer": answer, "meta": meta});
        with_images(&["a.jpg", "b.jpg"], &[("samples.jsonl", row.to_string())])
    };
    let turns = json!([{"role": "user", "content": "<image>q"}, {"role": "tool", "content": "<image>"}, {"role": "assistant", "content": "a"}]);
    let gold = |image: usize| json!({"conversation": turns, "gold": [{"image": image, "bbox": [1, 1, 4, 4]}]});
    assert_eq!(problems(row(gold(1), "a").path(), None), Vec::<String>::new());
    assert_has(&problems(row(gold(2), "a").path(), None)[0], &["samples.jsonl:1", "image 2 is none of the sample's 1"]);
    let on_second = r#"{"image": 2, "bbox_2d": [1, 1, 4, 4]}"#;
    let found = problems(row(json!({"conversation": turns, "answer_kind": "box"}), on_second).path(), None);
    assert_has(&found[0], &["image 2", "none of the sample's 1"]);
    let three = json!([{"role": "user", "content": "<image><image><image>"}]);
    for (conversation, part) in [(three, "3 `<image>` for 2 images"), (json!("hello"), "not a list of {role, content}")]
    {
        let dir = row(json!({"conversation": conversation}), "a");
        assert_has(&problems(dir.path(), None)[0], &["samples.jsonl:1: `conversation`: ", part]);
        // A question can be asked all the same, with all images, and nothing of the row is lost.
        let sample = open(dir.path(), None).unwrap().sample(0).unwrap();
        assert_eq!((sample.images.len(), &sample.meta["conversation"]), (2, &conversation));
        import(dir.path(), of(None), &dir.path().join("own"), &mut Err, &mut |_| ()).unwrap();
        let again = open(&dir.path().join("own"), None).unwrap().sample(0).unwrap();
        assert_eq!(again.meta["conversation"], conversation);
    }
}

#[test]
fn parts_without_an_image_of_their_own_stand_for_the_columns() {
    let text = |text: &str| json!({"type": "text", "text": text, "index": null});
    let image = |index: Value| json!({"type": "image", "text": null, "index": index});
    let rows = |images: Value, parts: Value| {
        let row = json!({"images": images, "messages": [{"role": "user", "content": parts},
            {"role": "assistant", "content": [text("A cup.")]}]});
        with_images(&["a.jpg", "b.jpg"], &[("t.json", json!([row]).to_string())])
    };
    let both = json!(["a.jpg", "b.jpg"]);
    let sample = |dir: TempDir| open(dir.path(), None).unwrap().sample(0).unwrap();
    let asked = sample(rows(both.clone(), json!([text("What?"), image(json!(1)), image(json!(0))])));
    assert_eq!(
        (asked.question.as_str(), asked.answer.as_str(), shades(&asked)),
        ("What?image 1image 2", "A cup.", vec![2, 1])
    );
    let asked = sample(rows(both.clone(), json!([{"type": "image"}, {"type": "image"}, text("What?")])));
    assert_eq!((asked.question.as_str(), shades(&asked)), ("What?", vec![1, 2]));
    let own = json!([{"type": "input_image", "image_url": "b.jpg"}, {"type": "image"}, {"type": "input_text", "text": "What?"}]);
    assert_eq!(shades(&sample(rows(json!(["a.jpg"]), own))), [2, 1]);
    let marked = json!([{"type": "image", "image": "b.jpg", "image_url": null}, text("<image>What?")]);
    assert_eq!(shades(&sample(rows(json!(["a.jpg"]), marked))), [2, 1], "marks in texts take from the column in turn");
    let asked = sample(rows(both.clone(), json!([text("<image>"), image(json!(1.0)), text("What?")])));
    assert_eq!(shades(&asked), [1, 2]);
    for (images, parts, part) in [
        (
            json!(["a.jpg"]),
            json!([{"type": "image"}, {"type": "image"}]),
            "messages[0] shows an image more than the 1 of `images`",
        ),
        (both.clone(), json!([image(json!(2))]), "messages[0] shows the image of `index` 2, counted from 0, of 2"),
        (both.clone(), json!([image(json!("1"))]), "`index` \"1\""),
        (both.clone(), json!([{"type": "image"}]), "1 `<image>` for 2 images"),
        (json!(["a.jpg"]), json!([text("<image><image>")]), "2 `<image>` for 1 images"),
        (both, json!([{"type": "video"}]), "messages[0] has a part of the type \"video\""),
    ] {
        assert_has(&problems(rows(images, parts).path(), None)[0], &["t.json:1: ", part]);
    }
}

#[test]
fn images_within_messages_are_read_from_parquet() {
    let dataset = open(&parquet("messages.parquet"), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("openai", 20));
    // In order, and between its steps jumps over both row groups.
    for n in (0..20).flat_map(|step| [(step * 7) % 20, (step * 13 + 5) % 20, step]) {
        let sample = dataset.sample(n).unwrap();
        let first: Vec<u8> = (0..1 + n % 3).map(|k| (5 * n + k) as u8).collect();
        let wanted = (first, if n % 2 == 1 { vec![5 * n as u8 + 4] } else { vec![] });
        assert_eq!((shades(&sample), later_shades(&sample)), wanted, "row {n}");
        assert_eq!((sample.question, sample.answer), (format!("Q{n}?"), format!("A{n}")));
    }
    // Files in the parts themselves, and columns of both kinds, of which one is null.
    let dataset = open(&parquet("parts.parquet"), None).unwrap();
    for n in 0..4 {
        assert_eq!(shades(&dataset.sample(n).unwrap()), [2 * n as u8, 2 * n as u8 + 1], "row {n}");
    }
    let dataset = open(&parquet("trl.parquet"), None).unwrap();
    assert_eq!((dataset.format(), dataset.len()), ("openai", 3));
    for n in 0..3 {
        let sample = dataset.sample(n).unwrap();
        assert_eq!((shades(&sample), later_shades(&sample)), (vec![3 * n as u8], vec![3 * n as u8 + 1]));
    }
    for name in ["messages.parquet", "parts.parquet", "trl.parquet"] {
        assert_eq!(problems(&parquet(name), None), Vec::<String>::new());
    }
}
