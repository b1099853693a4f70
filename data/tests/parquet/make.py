"""Writes the parquet files of this folder with pyarrow, in the layouts in which the datasets are published.

python data/tests/parquet/make.py    (needs pyarrow, numpy and pillow)
"""

import base64
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent


def png(shade, side=6):
    """A picture whose every pixel is (shade, 0, 0)."""
    out = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), [shade, 0, 0], np.uint8)).save(out, "PNG")
    return out.getvalue()


def noise(seed):
    """A picture of noise, too large to be read along with the text."""
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(shade):
    return {"bytes": png(shade), "path": None}


def verl():
    """DeepEyes-47k: nested structs, a column that is null now and then, one that is null throughout."""
    prompt = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    reward = pa.struct([("ground_truth", pa.string()), ("style", pa.string())])
    extra = pa.struct([("answer", pa.string()), ("index", pa.string()), ("question", pa.string()), ("split", pa.string())])
    rows = []
    for n in range(5):
        images = [image(10 * n + k) for k in range(1 + n % 2)]
        marks = "<image>" * len(images)
        rows.append({
            "data_source": "vstar" if n else "thinklite_eureka",
            "prompt": [{"role": "system", "content": "Tools."}, {"role": "user", "content": f"{marks}\nQ{n}?\nThink first."}],
            "images": images,
            "ability": "vqa",
            "env_name": "visual_toolbox_v2" if n else None,
            "reward_model": {"ground_truth": f"A{n}", "style": "model"},
            "extra_info": {"answer": f"A{n}", "index": str(n), "question": f"Q{n}?", "split": "train"},
            "unused": None,
        })
    schema = pa.schema([
        ("data_source", pa.string()), ("prompt", prompt), ("images", pa.list_(IMAGE)), ("ability", pa.string()),
        ("env_name", pa.string()), ("reward_model", reward), ("extra_info", extra), ("unused", pa.null()),
    ])
    return pa.Table.from_pylist(rows, schema)


def blink():
    rows = []
    for n in range(3):
        shown = {f"image_{k}": image(50 + 10 * n + k) if k <= 2 + n % 2 else None for k in range(1, 5)}
        rows.append({
            "idx": f"val_{n}", "question": "Which is red?", "sub_task": "Counting", **shown,
            "choices": ["the left", "the right"], "answer": "(B)", "prompt": "Which is red?\n(A) the left\n(B) the right",
            "explanation": "",
        })
    columns = ["idx", "question", "sub_task", "image_1", "image_2", "image_3", "image_4", "choices", "answer", "prompt", "explanation"]
    types = {"choices": pa.list_(pa.string()), **{f"image_{k}": IMAGE for k in range(1, 5)}}
    return pa.Table.from_pylist(rows, pa.schema([(name, types.get(name, pa.string())) for name in columns]))


def muirbench():
    rows = [{
        "idx": str(n), "task": "Counting", "image_relation": "Complementary", "image_type": "Photography",
        "question": "<image>\n<image> How many?", "options": ["1", "<image>", "None of the choices provided"], "answer": "AC"[n],
        "image_list": [image(100 + 10 * n + k) for k in range(3)], "counterpart_idx": str(1 - n),
    } for n in range(2)]
    types = {"options": pa.list_(pa.string()), "image_list": pa.list_(IMAGE)}
    return pa.Table.from_pylist(rows, pa.schema([(name, types.get(name, pa.string())) for name in rows[0]]))


def hrbench():
    rows = [{
        "index": n, "question": "What colour?", "answer": "ABCD"[n], "category": "single", "A": "red", "B": "green",
        "C": "blue", "D": "grey", "cycle_category": str(n), "image": base64.b64encode(noise(n // 2)).decode(),
    } for n in range(4)]
    return pa.Table.from_pylist(rows)


def pages():
    """Many small pages, the first one with a dictionary; two row groups."""
    images = [[image(3 * n + k) for k in range(1 + n % 3)] for n in range(50)]
    rows = [{
        "data_source": "x", "prompt": [{"role": "user", "content": "Q"}], "images": shown, "single": image(n) if n % 4 else None,
        "reward_model": {"ground_truth": f"A{n}", "style": "rule"},
    } for n, shown in enumerate(images)]
    prompt = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    reward = pa.struct([("ground_truth", pa.string()), ("style", pa.string())])
    return pa.Table.from_pylist(rows, pa.schema([
        ("data_source", pa.string()), ("prompt", prompt), ("images", pa.list_(IMAGE)), ("single", IMAGE), ("reward_model", reward),
    ]))


TEXT = pa.string()


def messages():
    """OpenAI's messages with images as data addresses; now and then one in the second question. Small pages, two row groups."""
    def part(text=None, shade=None):
        url = None if shade is None else {"url": "data:image/png;base64," + base64.b64encode(png(shade)).decode(), "detail": None}
        return {"type": "text" if shade is None else "image_url", "text": text, "image_url": url}

    rows = []
    for n in range(20):
        shown = [part(shade=5 * n + k) for k in range(1 + n % 3)]
        said = [("system", [part("Be short.")])] if n % 4 == 0 else []
        said += [("user", [*shown, part(f"Q{n}?")]), ("assistant", [part(f"A{n}")])]
        if n % 2:
            said += [("user", [part("And "), part(shade=5 * n + 4), part("?")]), ("assistant", [part("Yes.")])]
        rows.append({"messages": [{"role": role, "content": content} for role, content in said]})
    url = pa.struct([("url", TEXT), ("detail", TEXT)])
    content = pa.list_(pa.struct([("type", TEXT), ("text", TEXT), ("image_url", url)]))
    return pa.Table.from_pylist(rows, pa.schema([("messages", pa.list_(pa.struct([("role", TEXT), ("content", content)])))]))


def parts():
    """Parts with files of their own: structs, binary, or an address, of which all but one are null; null and empty lists."""
    def part(**own):
        return {"type": "image" if own else "text", "text": None if own else "What?", "image": None, "image_url": None, "bytes": None, **own}

    def address(shade):
        return {"url": "data:image/png;base64," + base64.b64encode(png(shade)).decode()}

    own = [lambda n: {"image": image(n)}, lambda n: {"image_url": address(n)}, lambda n: {"bytes": png(n)}]
    rows = []
    for n in range(4):
        shown = [part(**own[(n + k) % 3](2 * n + k)) for k in range(2)]
        said = [("system", [])] if n == 1 else []
        said += [("user", [*shown, part()]), ("assistant", [{**part(), "text": "A cup."}])]
        rows.append({"messages": [{"role": role, "content": content} for role, content in said]})
    content = pa.list_(pa.struct([
        ("type", TEXT), ("text", TEXT), ("image", IMAGE), ("image_url", pa.struct([("url", TEXT)])), ("bytes", pa.binary()),
    ]))
    return pa.Table.from_pylist(rows, pa.schema([("messages", pa.list_(pa.struct([("role", TEXT), ("content", content)])))]))


def empty():
    """A page of data without values, which pyarrow writes where it goes over from a dictionary to plain cells."""
    rows = [{
        "conversations": [{"from": "human", "value": f"<image>Q{n}"}, {"from": "gpt", "value": "a"}], "images": [png(n)],
    } for n in range(5)]
    return pa.Table.from_pylist(rows)


def trl():
    """TRL's conversations: parts of type image stand for the images of a column."""
    def part(text=None, index=None):
        return {"index": index, "text": text, "type": "text" if index is None else "image"}

    rows = [{
        "images": [image(3 * n), image(3 * n + 1)],
        "messages": [{"role": role, "content": content} for role, content in [
            ("user", [part("What?"), part(index=0)]), ("assistant", [part("A cup.")]),
            ("user", [part(index=1), part("And this?")]), ("assistant", [part("A dog.")]),
        ]],
    } for n in range(3)]
    content = pa.list_(pa.struct([("index", pa.int64()), ("text", TEXT), ("type", TEXT)]))
    said = pa.list_(pa.struct([("content", content), ("role", TEXT)]))
    return pa.Table.from_pylist(rows, pa.schema([("messages", said), ("images", pa.list_(IMAGE))]))


def main():
    pq.write_table(verl(), HERE / "verl.parquet", row_group_size=2)
    pq.write_table(blink(), HERE / "blink.parquet", compression="gzip", data_page_version="2.0")
    pq.write_table(muirbench(), HERE / "muirbench.parquet", compression="lz4")
    pq.write_table(hrbench(), HERE / "hrbench.parquet", compression="none")
    small = {"data_page_size": 300, "write_batch_size": 2, "dictionary_pagesize_limit": 1500}
    pq.write_table(pages(), HERE / "pages.parquet", row_group_size=40, **small)
    pq.write_table(messages(), HERE / "messages.parquet", row_group_size=12, use_dictionary=False, data_page_size=300, write_batch_size=2)
    pq.write_table(empty(), HERE / "empty.parquet", data_page_size=100, write_batch_size=1)
    pq.write_table(parts(), HERE / "parts.parquet", row_group_size=3)
    pq.write_table(trl(), HERE / "trl.parquet")
    pq.write_table(blink(), HERE / "zstd.parquet", compression="zstd")
    pq.write_table(blink(), HERE / "brotli.parquet", compression="brotli")


main()
