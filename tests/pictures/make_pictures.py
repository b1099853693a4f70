#!/usr/bin/env python3
"""Writes image files of every kind that is read, and `pictures.json`: their size and sums over the pixels that Pillow 12 reads.

    make_pictures.py        needs numpy and "pillow<13"; cjpeg and jpegtran (libjpeg-turbo-progs) for two of the files

The pixels are those of transformers' `load_image` for a path: EXIF orientation applied, then `convert("RGB")`. Where imagent
differs on purpose the entry says `differs`, and the sum is over what imagent gives.
"""
import json
import pathlib
import subprocess

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(11)


def scene(width=56, height=84):
    y, x = np.mgrid[0:height, 0:width].astype(float)
    waves = [128 + 90 * np.sin(x / (3 + c) + y / (9 - c)) for c in range(3)]
    pixels = np.stack(waves, -1) + rng.normal(0, 6, (height, width, 3))
    pixels[height // 3:height // 2, width // 4:width // 2] = (250, 20, 60)
    return Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))


def fnv(data):
    """FNV-1a of 64 bits, as text: JSON numbers are too short."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def write_all():
    picture = scene()
    for name, options in {
        "420": dict(subsampling=2), "422": dict(subsampling=1), "444": dict(subsampling=0), "rough": dict(quality=3),
        "fine": dict(quality=100, subsampling=2), "restart": dict(restart_marker_blocks=3, subsampling=2),
        "progressive": dict(progressive=True, subsampling=2), "progressive-444": dict(progressive=True, subsampling=0),
        "rgb": dict(keep_rgb=True),
    }.items():
        picture.save(HERE / f"{name}.jpg", **{"quality": 85, **options})
    picture.convert("L").save(HERE / "grey.jpg", progressive=True)
    picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=90)
    for width, height in [(1, 1), (2, 3), (3, 2), (17, 33), (5, 9)]:
        scene(width, height).save(HERE / f"size-{width}x{height}.jpg", subsampling=2)
    for orientation in range(1, 9):
        picture.save(HERE / f"exif-{orientation}.jpg", exif=exif(orientation), quality=60)
    ppm, out = HERE / "scene.ppm", lambda name: ["-outfile", HERE / name]
    picture.save(ppm)
    subprocess.run(["cjpeg", "-sample", "1x2", *out("440.jpg"), ppm], check=True)
    subprocess.run(["cjpeg", "-sample", "4x1", *out("411.jpg"), ppm], check=True)
    subprocess.run(["cjpeg", "-arithmetic", *out("arithmetic.jpg"), ppm], check=True)
    ppm.unlink()

    alpha = np.asarray(picture.convert("RGBA")).copy()
    alpha[..., 3] = np.arange(56) * 4
    clear = Image.fromarray(alpha)
    palette = picture.quantize(16)
    picture.save(HERE / "rgb.png")
    clear.save(HERE / "rgba.png")
    picture.save(HERE / "exif-6.png", exif=exif(6))
    picture.convert("L").save(HERE / "grey.png")
    picture.convert("LA").save(HERE / "grey-alpha.png")
    picture.convert("1").save(HERE / "one-bit.png")
    palette.save(HERE / "palette.png")
    palette.save(HERE / "palette-clear.png", transparency=0)
    deep = (np.asarray(picture.convert("L")).astype("uint16") << 8) + 77
    Image.fromarray(deep).save(HERE / "grey-16.png")
    frames = [scene() for _ in range(3)]
    frames[0].save(HERE / "animated.png", save_all=True, append_images=frames[1:])
    frames[0].quantize(32).save(HERE / "animated.gif", save_all=True, append_images=[f.quantize(32) for f in frames[1:]])
    palette.save(HERE / "still.gif")
    palette.save(HERE / "clear.gif", transparency=3)
    picture.save(HERE / "lossless.webp", lossless=True)
    picture.save(HERE / "lossy.webp", quality=70)
    clear.save(HERE / "alpha.webp", lossless=True, exact=True)
    frames[0].save(HERE / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    picture.save(HERE / "rgb.bmp")
    palette.save(HERE / "palette.bmp")


def table():
    rows = []
    for path in sorted(HERE.iterdir()):
        if path.suffix in (".py", ".json") or path.name == "arithmetic.jpg":
            continue
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        row = dict(file=path.name, width=image.width, height=image.height, sum=fnv(image.tobytes()))
        if path.name == "grey-16.png":
            high = Image.fromarray((np.asarray(Image.open(path)) >> 8).astype("uint8")).convert("RGB")
            row.update(sum=fnv(high.tobytes()), differs="the high byte; Pillow cuts 16-bit grey off at 255")
        rows.append(row)
    return rows


if __name__ == "__main__":
    write_all()
    (HERE / "pictures.json").write_text(json.dumps(table(), indent=1) + "\n")
