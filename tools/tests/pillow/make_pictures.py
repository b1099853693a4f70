"""Makes the goldens of the tools that change pictures: python make_pictures.py, with Pillow 11.3.0."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

HERE = Path(__file__).parent


def source(width, height):
    """The picture of `source` in tools/tests/pictures.rs."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            image.putpixel((x, y), ((x * 5 + y) % 256, (x * x + 3 * y) % 256, (x * 31 + y * y * 7) % 256))
    return image


picture = source(60, 37)
for angle in (30, 90, 180, 270, -75.5, 179):
    picture.rotate(angle, resample=Image.Resampling.BILINEAR, expand=True).save(HERE / f"rotate_{angle}.png")
picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(HERE / "flip_horizontal.png")
picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(HERE / "flip_vertical.png")
for factor in (0.1, 0.5, 1, 1.7, 10):
    ImageEnhance.Contrast(picture).enhance(factor).save(HERE / f"contrast_{factor}.png")
marked = picture.copy()
# The region 20..30 x 10..18 with a line of two pixels on its outside.
ImageDraw.Draw(marked).rectangle([18, 8, 31, 19], outline=(255, 255, 0), width=2)
marked.save(HERE / "mark.png")
