"""Our client against a llama.cpp server that has a text model (SmolLM2-135M-Instruct, say):

    pip install xllamacpp
    cargo build --release --example ask
    python tests/served/llama_cpp.py target/release/examples/ask target/release/imagent MODEL.gguf
"""

import json
import subprocess
import sys
import tempfile

import xllamacpp


def main(ask, imagent, model):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 4096
    params.n_parallel = 2
    params.port = 0
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    url = server.listening_address
    print("llama.cpp at", url)
    for question in ("What is the capital of France?", "Name three colours."):
        done = subprocess.run([ask, url, "smollm2", question], capture_output=True, text=True, check=True)
        reply = json.loads(done.stdout)
        assert reply["text"] and reply["prompt_tokens"] > 0 and reply["completion_tokens"] > 0, reply
        assert all(logprob <= 0 for _, logprob in reply["tokens"]), reply
        print("ok", question, repr(reply["text"][:70]), len(reply["tokens"]), "tokens")
    refused(imagent, url)


def refused(imagent, url):
    """A text model is sent images: its refusal, which is a status 500, is told after the attempts that such a status gets."""
    with tempfile.TemporaryDirectory() as folder:
        made = [imagent, "data", "synth", "--out", f"{folder}/world", "--samples", "2", "--seed", "1"]
        subprocess.run(made, check=True, capture_output=True)
        args = [imagent, "eval", "--endpoint", url, "--served-model", "smollm2", "--data", f"{folder}/world"]
        args += ["--set", "endpoint.retries=1"]
        done = subprocess.run(args, capture_output=True, text=True)
        assert done.returncode == 1 and "image" in done.stderr and "(2 attempts)" in done.stderr, done.stderr
        print("ok", done.stderr.strip().splitlines()[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
