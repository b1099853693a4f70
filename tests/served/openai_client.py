"""The openai package against our server: pip install openai; python tests/served/openai_client.py target/release/imagent

Starts the server with the nano base, asks in every way that the server answers, and prints `ok` lines.
"""

import base64
import io
import os
import struct
import subprocess
import sys
import zlib

import openai


def png(width, height, colour):
    """A PNG of one colour."""
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes(colour) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, 2)
    for kind, data in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        out.write(chunk(kind, data))
    return out.getvalue()


def image(width, height, colour):
    url = "data:image/png;base64," + base64.b64encode(png(width, height, colour)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


ZOOM = {
    "type": "function",
    "function": {
        "name": "zoom_in",
        "description": "Shows a region enlarged.",
        "parameters": {"type": "object", "properties": {"image": {"type": "integer"}, "bbox_2d": {"type": "array"}}},
    },
}


def check(name, right):
    assert right, name
    print("ok", name)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected")


def main(binary):
    environment = dict(os.environ, TOKEN="t0ken")
    server = subprocess.Popen(
        [binary, "serve", "--model", "nano", "--port", "0", "--token-env", "TOKEN"],
        stdout=subprocess.PIPE, text=True, env=environment,
    )
    try:
        ask(server.stdout.readline().split()[-1])
    finally:
        server.terminate()
    check("ends in order", server.wait(20) == 0)


def ask(url):
    client = openai.OpenAI(base_url=url, api_key="t0ken", max_retries=0)
    create = client.chat.completions.create
    check("models", [model.id for model in client.models.list()] == ["nano"])
    talk = [{"role": "user", "content": "What digit is it?"}]
    plain = create(model="nano", messages=talk, temperature=0, max_tokens=20, seed=1)
    check("text", isinstance(plain.choices[0].message.content, str) and plain.usage.total_tokens > 0)
    again = create(model="nano", messages=talk, temperature=0, max_tokens=20, seed=1)
    check("the same again", again.choices == plain.choices)
    several = create(model="nano", messages=talk, n=3, seed=5, max_tokens=12, stop=["zzz"])
    check("n", [choice.index for choice in several.choices] == [0, 1, 2])
    told = create(model="nano", messages=talk, temperature=0, max_tokens=6, logprobs=True, top_logprobs=3)
    tokens = told.choices[0].logprobs.content
    check("logprobs", all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in tokens))
    seen = [{"role": "user", "content": [image(90, 70, (200, 10, 10)), {"type": "text", "text": "same?"}]}]
    looked = create(model="nano", messages=seen, max_tokens=10, temperature=0)
    check("images", looked.usage.prompt_tokens > plain.usage.prompt_tokens)
    stream_checks(create, seen)
    tool_checks(create, seen)
    error_checks(client, create, talk, url)


def stream_checks(create, messages):
    whole = create(model="nano", messages=messages, seed=3, max_tokens=30)
    chunks = list(create(
        model="nano", messages=messages, seed=3, max_tokens=30, stream=True, stream_options={"include_usage": True},
    ))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check("stream", text == whole.choices[0].message.content and chunks[-1].usage == whole.usage)


def tool_checks(create, seen):
    pictures = [part for part in seen[0]["content"] if part["type"] == "image_url"]
    words = {"type": "text", "text": "What digit is on the red circle in image 1 ?"}
    talk = [{"role": "user", "content": 2 * pictures + [words]}]
    for seed in range(80):
        reply = create(model="nano", messages=talk, tools=[ZOOM], seed=seed, max_tokens=80).choices[0]
        if reply.finish_reason == "tool_calls":
            break
    call = reply.message.tool_calls[0]
    check("tool calls", call.function.name and call.function.arguments.startswith("{"))
    talk += [reply.message, {"role": "tool", "tool_call_id": call.id, "content": "Error: no image 1, there are 0"}]
    check("what a tool returned", create(model="nano", messages=talk, tools=[ZOOM], max_tokens=5).choices)


def error_checks(client, create, talk, url):
    error = raises(openai.NotFoundError, lambda: create(model="other", messages=talk))
    check("not found", error.code == "model_not_found" and error.param == "model")
    error = raises(openai.BadRequestError, lambda: create(model="nano", messages=talk, n=99))
    check("bad request", error.param == "n")
    stranger = openai.OpenAI(base_url=url, api_key="other", max_retries=0)
    raises(openai.AuthenticationError, stranger.models.list)
    check("authentication", client.models.list().data)


if __name__ == "__main__":
    main(sys.argv[1])
