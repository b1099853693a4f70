//! What the server says: whole and streamed, alone and among others, with its ends, counts and log-probabilities.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::process::{Served, image, question};

fn text(answer: &Value, choice: usize) -> &str {
    answer["choices"][choice]["message"]["content"].as_str().unwrap()
}

/// Questions of several lengths, with and without images, each with a seed.
fn questions() -> Vec<Value> {
    let words = ["What digit is it?", "Which picture has a circle", "a", "same or not?", "What"];
    let mut all = Vec::new();
    for (i, words) in words.into_iter().enumerate() {
        let more = json!({"seed": i, "max_tokens": 10 + 7 * i, "n": 1 + i % 3, "temperature": 0.5 + i as f64 / 4.0});
        let mut asked = question(words, more);
        if i % 2 == 0 {
            asked["messages"][0]["content"] = json!([image(40 + 30 * i as u32), {"type": "text", "text": words}]);
        }
        all.push(asked);
    }
    all
}

#[test]
fn a_reply_does_not_depend_on_who_else_asks() {
    let server = Served::start(&["--max-streams", "3"], &[]);
    let ask = |asked: &Value| {
        let answer = server.answer(asked);
        (answer["choices"].clone(), answer["usage"].clone())
    };
    let questions = questions();
    let alone: Vec<_> = questions.iter().map(ask).collect();
    for _ in 0..2 {
        let among: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = questions.iter().map(|asked| scope.spawn(|| ask(asked))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(among, alone);
    }
    let several = &alone[2].0;
    assert!(several.as_array().unwrap().len() == 3 && several[0]["message"] != several[1]["message"]);
}

#[test]
fn a_stream_says_what_the_whole_says() {
    let server = Served::start(&[], &[]);
    for mut asked in questions() {
        asked["logprobs"] = json!(true);
        asked["top_logprobs"] = json!(2);
        let whole = server.answer(&asked);
        asked["stream"] = json!(true);
        asked["stream_options"] = json!({"include_usage": true});
        let (chunks, closed) = server.stream(&asked);
        assert!(closed);
        let n = whole["choices"].as_array().unwrap().len();
        let (mut texts, mut tokens, mut ends) = (vec![String::new(); n], vec![Vec::new(); n], vec![Value::Null; n]);
        for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
            let i = choice["index"].as_u64().unwrap() as usize;
            texts[i].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            tokens[i].extend(choice["logprobs"]["content"].as_array().cloned().unwrap_or_default());
            assert!(ends[i].is_null(), "nothing comes after the end");
            ends[i] = choice["finish_reason"].clone();
        }
        for i in 0..n {
            assert_eq!((texts[i].as_str(), &ends[i]), (text(&whole, i), &whole["choices"][i]["finish_reason"]));
            assert_eq!(json!(tokens[i]), whole["choices"][i]["logprobs"]["content"]);
        }
        assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
    }
}

#[test]
fn log_probabilities_belong_to_the_text() {
    let server = Served::start(&[], &[]);
    let more = json!({"temperature": 0, "max_tokens": 12, "logprobs": true, "top_logprobs": 4});
    let answer = server.answer(&question("What digit?", more));
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(!tokens.is_empty());
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        let logprobs: Vec<f64> = top.iter().map(|top| top["logprob"].as_f64().unwrap()).collect();
        assert!(top.len() == 4 && logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        assert_eq!(
            (&top[0]["token"], &top[0]["logprob"]),
            (&token["token"], &token["logprob"]),
            "greedy takes the first"
        );
        assert!(logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>() < 1.0 + 1e-5);
    }
}

#[test]
fn a_reply_ends_where_it_must() {
    let server = Served::start(&["--max-tokens", "5"], &[]);
    let greedy = |more: Value| {
        let mut asked = question("What digit is it?", json!({"temperature": 0}));
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.answer(&asked)
    };
    let short = greedy(json!({}));
    assert_eq!(short["usage"]["completion_tokens"], 5);
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    let whole = greedy(json!({"max_completion_tokens": 60}));
    let said = text(&whole, 0).to_owned();
    assert!(said.starts_with(text(&short, 0)) && said.len() > 8, "{said:?}");
    // A stop text in the middle, which may end within a token.
    let stop: String = said.chars().skip(3).take(4).collect();
    let stopped = greedy(json!({"max_tokens": 60, "stop": [stop]}));
    assert_eq!(text(&stopped, 0), said.split(&stop).next().unwrap());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert!(stopped["usage"]["completion_tokens"].as_u64() < whole["usage"]["completion_tokens"].as_u64());
}

#[test]
fn seeds_name_the_randomness() {
    let server = Served::start(&[], &[]);
    let ask = |seed: Value| server.answer(&question("same?", json!({"seed": seed, "max_tokens": 20})));
    let (one, again, other) = (ask(json!(1)), ask(json!(1)), ask(json!(2)));
    assert!(text(&one, 0) == text(&again, 0) && text(&one, 0) != text(&other, 0));
    assert_ne!(text(&ask(Value::Null), 0), text(&ask(Value::Null), 0));
}

#[test]
fn the_server_tells_of_itself() {
    let server = Served::start(&["--context", "300"], &[]);
    let (status, models) = server.request("GET", "/models", &[], b"");
    assert_eq!(
        (status, &models["data"][0]["id"], &models["data"][0]["max_model_len"]),
        (200, &json!("nano"), &json!(300))
    );
    assert_eq!(models["data"][0]["image"], json!({"min_pixels": 12544, "max_pixels": 12544, "factor": 28}));
    let (status, health) = server.request("GET", "/../health", &[], b"");
    assert_eq!((status, health), (200, json!({"status": "ok"})));
}

#[test]
fn ctrl_c_lets_a_stream_come_to_its_end() {
    let mut server = Served::start(&[], &[]);
    let asked = question("What digit?", json!({"max_tokens": 400, "stream": true, "seed": 1, "stop": ["\u{1}"]}));
    let response = ureq::post(&format!("{}/chat/completions", server.url)).send_json(asked).unwrap();
    let mut lines = BufReader::new(response.into_reader()).lines();
    lines.next().unwrap().unwrap();
    server.interrupt();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line == "data: [DONE]"), "{:?}", rest.last());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}
