//! Our client against our server: the same episodes and figures as without a server in between.

use std::path::Path;

use serde_json::{Value, json};

use super::done::Done;
use super::process::{Served, command, image, place, question, zooming};

/// The figures and the episodes of an evaluation.
fn evaluate(dir: &Path, args: &[&str]) -> (Value, Vec<Value>) {
    let base = ["eval", "config.toml", "--json", "--save", "saved", "--set", "prompt.number_images=true"];
    let all = [&base[..], args].concat();
    let done = Done::from(command(&all).current_dir(dir).output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let transcripts = std::fs::read_to_string(dir.join("saved/rollouts.jsonl")).unwrap();
    let lines = transcripts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (serde_json::from_str::<Value>(&done.out).unwrap()["metrics"].clone(), lines)
}

#[test]
fn an_evaluation_is_the_same_with_a_server_in_between() {
    let place = place();
    let model = zooming(place.path());
    let (figures, transcripts) = evaluate(place.path(), &["--model", &model]);
    let zoomed = |record: &Value| record["turns"][0]["images"].as_array().is_some_and(|images| !images.is_empty());
    let zooms = transcripts.iter().filter(|record| zoomed(record)).count();
    assert!(zooms > 0 && zooms < transcripts.len(), "{zooms} of {} zoom", transcripts.len());
    let server = Served::of(&model, &[], &[]);
    let served = ["--endpoint", server.url.as_str(), "--served-model", "nano"];
    let with = |calls: &str, more: &[&str]| {
        let set = format!("endpoint.calls={calls}");
        evaluate(place.path(), &[&served[..], &["--set", &set], more].concat())
    };
    let same = with("template", &[]);
    assert_eq!(same.1, transcripts);
    assert_eq!(same.0, figures);
    assert_eq!(with("template", &["--set", "endpoint.at_once=1"]).1, transcripts);
    // Told or called in other words than it was taught, the model may answer otherwise; the episodes are whole.
    for calls in ["text", "api"] {
        let (_, records) = with(calls, &[]);
        assert_eq!(records.len(), transcripts.len(), "{calls}");
        assert!(records.iter().all(|record| record["prompt_tokens"].as_u64() > Some(0)), "{calls}");
    }
    let (_, records) = with("api", &[]);
    assert!(records.iter().any(zoomed), "a call of the API brings an image");
}

#[test]
fn calls_come_in_the_form_of_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::of(&zooming(dir.path()), &[], &[]);
    let tool = json!({"type": "function", "function": {"name": "zoom_in", "description": "", "parameters": {}}});
    let words = "What digit is on the red circle in image 1 ?";
    let mut asked = question(words, json!({"tools": [tool], "max_tokens": 80}));
    asked["messages"][0]["content"] = json!([image(448), image(448), {"type": "text", "text": words}]);
    let seeds = (0..60).find_map(|seed| {
        asked["seed"] = json!(seed);
        let answer = server.answer(&asked);
        (answer["choices"][0]["finish_reason"] == "tool_calls").then_some(answer)
    });
    let answer = seeds.expect("the model calls a tool");
    let message = &answer["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    assert!(call["id"].as_str().unwrap().starts_with("call_") && call["type"] == "function", "{call}");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments.is_object() && !message["content"].as_str().unwrap_or_default().contains("<tool_call>"));
    // Streamed, the same call comes in pieces that make it.
    asked["stream"] = json!(true);
    let (chunks, closed) = server.stream(&asked);
    let told = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    let told: Vec<&Value> = told.filter_map(|choice| choice["delta"].get("tool_calls")).collect();
    assert!(closed && told.len() == 1, "{told:?}");
    assert_eq!((&told[0][0]["function"], &told[0][0]["index"]), (&call["function"], &json!(0)));
    // And goes back with what the tool returned.
    let back = json!([
        asked["messages"][0],
        message,
        {"role": "tool", "tool_call_id": call["id"], "content": "Error: no image"},
    ]);
    server.answer(&json!({"model": "nano", "messages": back, "max_tokens": 5, "temperature": 0}));
}

#[test]
fn a_wrong_name_or_token_is_told() {
    let place = place();
    let server = Served::start(&["--token-env", "TOKEN"], &[("TOKEN", "s3cret")]);
    let run = |model: &str, key: Option<&str>| {
        let args = ["rollout", "config.toml", "--index", "0", "--endpoint", &server.url, "--served-model", model];
        let mut command = command(&args);
        command.current_dir(place.path());
        key.map(|key| command.env("OPENAI_API_KEY", key));
        Done::from(command.output().unwrap())
    };
    run("nano", None).fails(1, &["status 401", "no key is set"]);
    run("other", Some("s3cret")).fails(1, &["status 404", "there is no model"]);
    run("nano", Some("s3cret")).ok();
}
