"""Checksums of Pillow <= 12's bicubic resize of pictures made by a formula: `python pillow_sums.py > pillow_sums.json`.

Pillow 12.3 runs the horizontal pass first; the two passes are called one by one so that any version does.
"""
import json
import numpy as np
from PIL import Image

U = np.uint32


def picture(w, h):
    x, y, c = np.arange(w, dtype=U)[None, :, None], np.arange(h, dtype=U)[:, None, None], np.arange(3, dtype=U)
    v = (x * U(2654435761)) ^ (y * U(2246822519)) ^ (c * U(3266489917))
    v = (v ^ (v >> U(15))) * U(2246822519)
    return (v >> U(24)).astype(np.uint8)


def checksum(b):
    b = b.reshape(-1).astype(np.uint64)
    return int((np.arange(len(b), dtype=np.uint64) % 65521 + 1) @ b % (1 << 40))


rows = []
for w, h, ow, oh in [(448, 448, 112, 112), (1920, 1080, 1316, 728), (37, 53, 112, 84), (100, 333, 28, 308), (5, 700, 56, 560), (640, 427, 644, 420), (1, 1, 56, 56), (997, 13, 560, 28), (300, 200, 300, 112), (300, 200, 28, 200)]:
    image = Image.fromarray(picture(w, h))
    image = image.resize((ow, h), Image.BICUBIC).resize((ow, oh), Image.BICUBIC)
    rows.append([w, h, ow, oh, checksum(np.asarray(image))])
print(json.dumps(rows))
