"""An image brought to a square before the model's own processor takes it."""

from __future__ import annotations

from PIL import Image, ImageOps

from recipec.spec.policy import Images


def framed(image: Image.Image, spec: Images) -> Image.Image:
    """Return the image as ``policy.image`` wants it, in RGB; what is transparent becomes white.

    >>> wide = Image.new("RGB", (40, 20), "white")
    >>> framed(wide, Images(size=10)).size, framed(wide, Images(size=10, fit="none")).size
    ((10, 10), (10, 5))
    >>> framed(wide, Images(size=10)).getpixel((5, 0)), framed(wide, Images(size=10, fit="crop")).getpixel((5, 0))
    ((0, 0, 0), (255, 255, 255))
    """
    image = opaque(image)
    if spec.size is None:
        return image
    side = (spec.size, spec.size)
    how = Image.Resampling.BICUBIC
    if spec.fit == "stretch":
        return image.resize(side, how)
    if spec.fit == "crop":
        return ImageOps.fit(image, side, how)
    longest = max(image.size)
    width, height = (max(1, round(n * spec.size / longest)) for n in image.size)
    small = image.resize((width, height), how)
    if spec.fit == "none":
        return small
    framed_image = Image.new("RGB", side)
    framed_image.paste(small, ((spec.size - width) // 2, (spec.size - height) // 2))
    return framed_image


def opaque(image: Image.Image) -> Image.Image:
    """Return an image in RGB, over white where it is transparent.

    >>> opaque(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        ground = Image.new("RGBA", clear.size, "white")
        image = Image.alpha_composite(ground, clear)
    return image.convert("RGB")
