//! Prompts: templates against Jinja in Python, ids against transformers' processor.

use imagent_models::chat_template::{ChatTemplate, RenderOptions, expand_image_pads};
use imagent_models::tokenizer::Tokenizer;
use serde_json::{Value, json};

use super::{Golden, cases, parity};

#[test]
fn prompts_have_the_ids_of_transformers() {
    let mut tried = 0;
    for case in cases() {
        let messages = super::json(&case.join("messages.json"));
        let messages = messages.as_array().unwrap();
        let manifest = super::json(&case.join("manifest.json"));
        let (Some(expected), true) = (manifest["prompt_text"].as_str(), messages[0].is_object()) else { continue };
        let template = ChatTemplate::open(&case.join("checkpoint")).unwrap();
        let tokenizer = Tokenizer::open(&case.join("checkpoint")).unwrap();
        let options = RenderOptions { add_generation_prompt: expected.ends_with("assistant\n"), ..Default::default() };
        let text = template.render(messages, &options).unwrap();
        assert_eq!(text, expected, "{}", case.display());
        let golden = Golden::open(&case);
        let has_images = golden.bytes("image_grid_thw").is_some();
        let grids = if has_images { golden.ids("image_grid_thw") } else { Vec::new() };
        let counts: Vec<usize> = grids.as_chunks::<3>().0.iter().map(|g| (g[0] * g[1] * g[2] / 4) as usize).collect();
        let pad = tokenizer.special().image_pad;
        let (ids, starts) = expand_image_pads(&tokenizer.encode(&text).unwrap(), pad, &counts).unwrap();
        assert_eq!(ids, golden.ids("input_ids"), "{}", case.display());
        for (start, count) in starts.into_iter().zip(counts) {
            assert!(ids[start - 1] != pad && ids[start..start + count].iter().all(|&id| id == pad));
            assert!(ids[start + count] != pad);
        }
        tried += 1;
    }
    assert!(tried >= 3);
}

#[test]
fn pictures_can_be_numbered() {
    for case in ["single_image", "three_images", "tool_turn"].map(|c| parity().join(c)) {
        let messages = super::json(&case.join("messages.json"));
        let manifest = super::json(&case.join("manifest.json"));
        let template = ChatTemplate::open(&case.join("checkpoint")).unwrap();
        let options = RenderOptions { add_generation_prompt: true, add_vision_id: true, tools: None };
        let text = template.render(messages.as_array().unwrap(), &options).unwrap();
        assert_eq!(text, manifest["prompt_text_vision_ids"][0]);
    }
}

#[test]
fn templates_render_as_in_python() {
    let file = super::json(&parity().join("chat_template/cases.json"));
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let template = ChatTemplate::new(file["templates"][name].as_str().unwrap()).unwrap();
        let options = RenderOptions {
            tools: case["tools"].as_array().map(Vec::as_slice),
            add_generation_prompt: case["add_generation_prompt"] == true,
            add_vision_id: case["add_vision_id"] == true,
        };
        let text = template.render(case["messages"].as_array().unwrap(), &options).unwrap();
        assert_eq!(text, case["rendered"], "{name}");
    }
}

fn render(source: &str, messages: Value) -> Result<String, String> {
    let template = ChatTemplate::new(source).map_err(|e| e.to_string())?;
    template.render(messages.as_array().unwrap(), &RenderOptions::default()).map_err(|e| e.to_string())
}

#[test]
fn what_templates_may_call() {
    let year = render("{{ strftime_now('%Y') }}", json!([])).unwrap();
    assert!(year.parse::<u32>().unwrap() >= 2024);
    let error = render("{{ raise_exception('roles must alternate') }}", json!([])).unwrap_err();
    assert!(error.contains("roles must alternate"), "{error}");
    assert!(render("{% if %}", json!([])).unwrap_err().contains("compile"));
    assert_eq!(render("{{ true }} {{ 'a' == 'b' }} {{ missing }}", json!([])).unwrap(), "True False ");
}

#[test]
fn templates_end_in_little_time_and_memory() {
    let refused = |source: &str, word: &str| {
        let message = render(source, json!([])).unwrap_err();
        assert!(message.contains(word) && message.lines().count() == 1, "{message}");
    };
    let over = |inner: &str| {
        format!("{{% for i in range(10000) %}}{{% for j in range(10000) %}}{inner}{{% endfor %}}{{% endfor %}}")
    };
    refused(&over("{% for k in range(10000) %}{% endfor %}"), "20000000 steps");
    refused(&over(&"x".repeat(1000)), "67108864 bytes");
    refused(r#"{{ "%1000000000d" | format(1) }}"#, "9999");
    refused(r#"{{ "%.1000000000f" | format(1.0) }}"#, "9999");
    refused(r#"{{ "{:>1000000000}".format(1) }}"#, "9999");
    refused(r#"{{ "x" * 10000000000 }}"#, "too large");
    assert_eq!(render(r#"{{ "%05d" | format(7) }}{{ "{:>3}".format(1) }}"#, json!([])).unwrap(), "00007  1");
}

#[test]
fn a_panic_of_the_engine_is_an_error_of_the_template() {
    for source in ["{% for m in messages[::-1] %}{{ m.role }}{% endfor %}", "{{ ''[::-1] }}"] {
        let message = render(source, json!([])).unwrap_err();
        assert!(message.contains("template engine gave up (") && message.lines().count() == 1, "{message}");
    }
    let reversed = render("{% for m in messages[::-1] %}{{ m }}{% endfor %}", json!(["a", "b"]));
    assert_eq!(reversed.unwrap(), "ba", "the next one is rendered");
}

#[test]
fn every_place_a_template_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let open = || ChatTemplate::open(at).and_then(|t| t.render(&[], &RenderOptions::default()));
    assert!(open().is_err());
    let config = json!({"eos_token": {"content": "E"}, "chat_template": [{"name": "default", "template": "one{{ eos_token }}"}]});
    std::fs::write(at.join("tokenizer_config.json"), config.to_string()).unwrap();
    assert_eq!(open().unwrap(), "oneE");
    std::fs::write(at.join("chat_template.json"), json!({"chat_template": "two"}).to_string()).unwrap();
    assert_eq!(open().unwrap(), "two");
    std::fs::write(at.join("chat_template.jinja"), "three{{ eos_token }}").unwrap();
    assert_eq!(open().unwrap(), "threeE");
}

#[test]
fn placeholders_and_images_must_match() {
    assert_eq!(expand_image_pads(&[], 9, &[]).unwrap(), (vec![], vec![]));
    assert_eq!(expand_image_pads(&[9, 9], 9, &[1, 2]).unwrap(), (vec![9, 9, 9], vec![0, 1]));
    let message = expand_image_pads(&[1, 9], 9, &[1, 2]).unwrap_err().to_string();
    assert!(message.contains("1 image placeholders") && message.contains("2 images"), "{message}");
}
