#!/usr/bin/env python3
"""Trains the second opinion (host/recognition/second_opinion.h) and writes its weights.

    tools/lab/second_opinion.py --mnist DIR [--fonts DIR] [--images N] [--epochs N] [--seed N]
                                [--out FILE.cpp]

Eleven classes: the ten digits, and what is none. The digits are MNIST's training images, as they
are and varied, and those of fonts; the others are letters and signs of the same fonts, scribbles,
blots, and pairs of digits that touch. Letters that many people write like a digit (LIKE_DIGITS)
are left out. The same fonts and seed give the same weights, on one machine.

It needs PyTorch, OpenCV and Pillow, and fonts, those that imitate handwriting above all. In Debian:
fonts-{bwht,breip,comic-neue,dancingscript,dkg-handwriting,ecolier-court,femkeklaver,humor-sans,
isabella,joscelyn,kaushanscript,klee,kristi,leckerli-one,levien-typoscript,lobstertwo,nanum-extra,
rufscript,seto,sjfonts,smc-chilanka,stick,tomsontalks,yozvox-yozfont-edu,yusei-magic} and, of print,
fonts-{cabin,courier-prime,dejavu-core,dosis,essays1743,freefont-ttf,inter,jura,lato,liberation,
linuxlibertine,ocr-a,opendyslexic,osifont,play,sil-andika,sil-gentium,texgyre,tuffy,vollkorn}.
"""
import argparse
import gzip
import pathlib

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

LIKE_DIGITS = set("OolIiSsZzBqgb")
LETTERS = "".join(c for c in map(chr, range(65, 123)) if c.isalpha() and c not in LIKE_DIGITS)
SIGNS = ("+=?!&%@#*$€£§<>{}\"ÄÖÜäöüßÆÇÑéèêàåøþЖДФЩЮЯЛПГЦШЫЭждфщюялпгцшыэ"
         "ΑΒΓΔΘΛΞΠΣΦΨΩαγδζηθλμξπρφψω")
DIGITS = "0123456789"
NO_DIGIT = 10
SIDE = 112  # of the canvas that all is drawn on; a digit fills 72 of it
FONTS_PER_FOLDER = 8
HERSHEY = [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX,
           cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
           cv2.FONT_HERSHEY_SCRIPT_COMPLEX]


def cropped(ink):
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return ink[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def on_canvas(ink):
    """Ink 0 to 1, or None if there is none, scaled into the middle of a canvas."""
    if not (ink > 0.05).any():
        return None
    ink = cropped(np.where(ink > 0.05, ink, 0).astype(np.float32))
    scale = 72 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape]
    ink = cv2.resize(ink, size[::-1], interpolation=cv2.INTER_AREA)
    canvas = np.zeros((SIDE, SIDE), np.float32)
    y, x = [(SIDE - side) // 2 for side in size]
    canvas[y:y + size[0], x:x + size[1]] = ink
    return canvas


def prepared(ink):
    """As MNIST: 20x20 by area, the centre of mass in the middle of 28x28."""
    if not (ink > 0.08).any():
        return None
    ink = cropped(np.where(ink > 0.08, ink, 0).astype(np.float32))
    scale = 20 / max(ink.shape)
    height, width = [max(1, round(side * scale)) for side in ink.shape]
    ink = cv2.resize(ink, (width, height),
                     interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    mass = max(float(ink.sum()), 1e-6)
    y = int(15 - (ink.sum(1) * (np.arange(height) + 0.5)).sum() / mass // 1)
    x = int(15 - (ink.sum(0) * (np.arange(width) + 0.5)).sum() / mass // 1)
    canvas = np.zeros((76, 76), np.float32)
    canvas[23 + y:23 + y + height, 23 + x:23 + x + width] = ink
    image = canvas[24:52, 24:52]
    return np.rint(np.clip(image / max(min(image.max(), 1), 1e-6), 0, 1) * 255).astype(np.uint8)


# --- what fonts have -----------------------------------------------------------------------------

def rendered(font, text):
    image = Image.new("L", (320, 320), 0)
    ImageDraw.Draw(image).text((110, 90), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def usable_fonts(folder):
    """Some fonts of each folder that have letters and digits of their own."""
    taken = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf")):
        try:
            font = ImageFont.truetype(str(path), 96)
            shapes = [rendered(font, c) for c in "aQx7\uffff"]
        except OSError:
            continue
        distinct = all(not np.array_equal(a, b)
                       for i, a in enumerate(shapes) for b in shapes[:i])
        fonts = taken.setdefault(path.parent, [])
        if distinct and len(fonts) < FONTS_PER_FOLDER:
            fonts.append(font)
    return [font for fonts in taken.values() for font in fonts]


def glyphs(fonts, characters):
    """(canvas, character) of all that the fonts have."""
    found = []
    for font in fonts:
        missing = rendered(font, "\uffff")
        for character in characters:
            ink = rendered(font, character)
            canvas = None if np.array_equal(ink, missing) else on_canvas(ink)
            if canvas is not None:
                found.append((canvas, character))
    return found


def hershey_glyphs(characters):
    found = []
    for font in HERSHEY:
        for character in characters:
            for thickness in (6, 12, 20):
                ink = np.zeros((320, 320), np.uint8)
                cv2.putText(ink, character, (100, 210), font, 5, 255, thickness, cv2.LINE_AA)
                found.append((on_canvas(ink / 255), character))
    return found


# --- what is drawn -------------------------------------------------------------------------------

class Pen:
    """Draws and varies shapes at random; each method returns a canvas of ink, 0 to 1."""

    def __init__(self, random):
        self.random = random
        self.canvas = None
        self.width = 0

    def start(self):
        self.canvas = np.zeros((SIDE, SIDE), np.uint8)
        self.width = int(self.random.integers(3, 14))

    def line(self, *points, closed=False):
        cv2.polylines(self.canvas, [np.array(points).astype(np.int32)], closed, 255, self.width,
                      cv2.LINE_AA)

    def near(self, x, y, spread=4):
        return self.random.normal(x, spread), self.random.normal(y, spread)

    def anywhere(self):
        return self.random.uniform(10, 102, 2)

    def one(self):
        """With a flag, a base, or both, as printed and as written in Europe."""
        self.start()
        random = self.random
        (x0, y0), (x1, y1) = self.near(60, 18), self.near(54, 94)
        self.line((x0, y0), (x1, y1))
        kind = random.random()
        if kind < 0.75:
            self.line((x0, y0), (x0 - random.uniform(8, 40), y0 + random.uniform(8, 40)))
        if kind > 0.45:
            half = random.uniform(8, 30)
            self.line((x1 - half, y1), (x1 + half, random.normal(y1, 2)))
        return self.canvas / 255

    def seven(self):
        """With a bar, more often than not."""
        self.start()
        random = self.random
        left, right, end = self.near(26, 20), self.near(86, 20), self.near(46, 94)
        self.line(left, right, end)
        if random.random() < 0.7:
            x, y = (right[0] + end[0]) / 2, random.normal(56, 5)
            half = random.uniform(10, 25)
            self.line((x - half, random.normal(y, 4)), (x + half, random.normal(y, 4)))
        return self.canvas / 255

    def scribble(self):
        self.start()
        random = self.random
        for _ in range(random.integers(1, 5)):
            kind = random.integers(0, 5)
            if kind == 0:
                self.line(self.anywhere(), self.anywhere())
            elif kind == 1:
                axes = random.uniform(5, 45, 2).astype(int)
                center = self.anywhere().astype(int)
                cv2.ellipse(self.canvas, center.tolist(), axes.tolist(), random.uniform(0, 180),
                            random.uniform(0, 180), random.uniform(180, 400), 255, self.width,
                            cv2.LINE_AA)
            elif kind == 2:
                self.line(*(self.anywhere() for _ in range(random.integers(3, 7))),
                          closed=random.random() < 0.5)
            elif kind == 3:
                a, b, c, d = (self.anywhere() for _ in range(4))
                self.line(*((1 - u)**3 * a + 3 * u * (1 - u)**2 * b + 3 * u**2 * (1 - u) * c
                            + u**3 * d for u in np.linspace(0, 1, 40)))
            else:
                self.blot(random.uniform(4, 20, 2))
        return self.canvas / 255

    def blot(self, axes):
        cv2.ellipse(self.canvas, self.anywhere().astype(int).tolist(), axes.astype(int).tolist(),
                    self.random.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)

    def solid(self):
        """A filled shape, or a ring with something in it."""
        self.start()
        random = self.random
        kind = random.integers(0, 3)
        size = random.uniform(20, 42)
        axes = [int(size), int(size * random.uniform(0.6, 1))]
        if kind == 0:
            cv2.ellipse(self.canvas, (56, 56), axes, random.uniform(0, 180), 0, 360, 255, -1)
        elif kind == 1:
            corners = np.array([self.near(56, 56, 24) for _ in range(random.integers(3, 7))])
            cv2.fillPoly(self.canvas, [cv2.convexHull(corners.astype(np.int32))], 255, cv2.LINE_AA)
        else:
            cv2.ellipse(self.canvas, (56, 56), axes, 0, 0, 360, 255, self.width // 2 + 1)
            for _ in range(random.integers(2, 5)):
                x, y = self.near(56, 56, size / 3)
                self.line((x, y), self.near(x, y, 6))
        return self.canvas / 255

    def pair(self, left, right):
        """Two of MNIST's images as digits that touch, or nearly."""
        left, right = cropped(left), cropped(right)
        ink = np.zeros((40, 60), np.float32)
        ink[8:8 + left.shape[0], 4:4 + left.shape[1]] = left
        x = 4 + left.shape[1] - int(self.random.integers(-1, 3))
        y = 8 + int(self.random.integers(-3, 4))
        place = ink[y:y + right.shape[0], x:x + right.shape[1]]
        np.maximum(place, right, out=place)
        return on_canvas(cv2.resize(ink / 255, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))

    def bent(self, ink, strength=1.0):
        """Turned, slanted, stretched, and often wavy."""
        random = self.random
        turn, slant = random.normal(0, 0.12 * strength), random.normal(0, 0.12 * strength)
        stretch = np.exp(random.normal(0, 0.1 * strength, 2))
        matrix = (np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
                  @ np.array([[1, slant], [0, 1]]) @ np.diag(stretch))
        middle = np.full(2, SIDE / 2)
        ink = cv2.warpAffine(ink.astype(np.float32),
                             np.column_stack([matrix, middle - matrix @ middle]), (SIDE, SIDE))
        if random.random() < 0.6:
            x, y = (cv2.resize(random.normal(0, 2, (5, 5)).astype(np.float32), (SIDE, SIDE),
                               interpolation=cv2.INTER_CUBIC) for _ in range(2))
            v, u = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
            ink = cv2.remap(ink, u + x, v + y, cv2.INTER_LINEAR)
        return ink

    def with_other_pen(self, ink):
        change = round(self.random.normal(0.4, 1.8))
        if change == 0:
            return ink
        size = 2 * abs(change) + 1
        nib = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        other = cv2.dilate(ink, nib) if change > 0 else cv2.erode(ink, nib)
        return other if other.sum() > 0.35 * ink.sum() else ink

    def image(self, ink):
        """What the program makes of it, sharp or not, in grey as scans have it."""
        random = self.random
        if random.random() < 0.5:
            ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.4, 2))
        image = prepared(ink)
        if image is not None and random.random() < 0.3:
            image = np.rint((image / 255)**random.uniform(0.6, 1.5) * 255).astype(np.uint8)
        return image


def training_set(options, digits, labels):
    random = np.random.default_rng(options.seed)
    pen = Pen(random)
    fonts = usable_fonts(options.fonts)
    sets = {"digits": glyphs(fonts, DIGITS), "letters": glyphs(fonts, LETTERS),
            "signs": glyphs(fonts, SIGNS), "hershey digits": hershey_glyphs(DIGITS),
            "hershey letters": hershey_glyphs(LETTERS)}
    print(len(fonts), "fonts;", ", ".join(f"{len(s)} {name}" for name, s in sets.items()))
    images, classes = list(digits), list(labels)

    def add(share, draw):
        for _ in range(int(options.images * share)):
            image, label = draw()
            if image is not None:
                images.append(image)
                classes.append(label)

    def mnist_varied():
        i = random.integers(len(digits))
        ink = cv2.resize(digits[i] / 255, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        return pen.image(pen.with_other_pen(pen.bent(np.clip(ink, 0, 1), 0.8))), labels[i]

    def glyph(name):
        ink, character = sets[name][random.integers(len(sets[name]))]
        label = int(character) if character in DIGITS else NO_DIGIT
        return pen.image(pen.with_other_pen(pen.bent(ink))), label

    def drawn(shape, label):
        return pen.image(pen.bent(shape())), label

    def pair():
        left, right = digits[random.integers(0, len(digits), 2)]
        return pen.image(pen.bent(pen.pair(left, right), 0.5)), NO_DIGIT

    add(1, mnist_varied)
    add(0.25, lambda: glyph("digits"))
    add(0.06, lambda: glyph("hershey digits"))
    add(0.06, lambda: drawn(pen.one, 1))
    add(0.04, lambda: drawn(pen.seven, 7))
    add(0.7, lambda: glyph("letters"))
    add(0.2, lambda: glyph("hershey letters"))
    add(0.2, lambda: glyph("signs"))
    add(0.2, lambda: drawn(pen.scribble, NO_DIGIT))
    add(0.08, lambda: drawn(pen.solid, NO_DIGIT))
    add(0.12, pair)
    return np.array(images), np.array(classes, np.uint8)


# --- the network ---------------------------------------------------------------------------------

CHANNELS = (12, 24, 32)
ARCH = "conv:{}x3,pool:2,conv:{}x3,pool:2,conv:{}x3,flatten,dense:11".format(*CHANNELS)


def network():
    nn = torch.nn
    first, second, third = CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, first, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(second, third, 3), nn.ReLU(), nn.Flatten(), nn.Linear(third * 9, 11))


def logits(net, images):
    return net(images.float().view(-1, 1, 28, 28) / 255)


def trained(options, images, classes):
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    images, classes = torch.tensor(images), torch.tensor(classes).long()
    net, batch = network(), 256
    weights = torch.ones(11)
    weights[NO_DIGIT] = options.no_digit_weight
    steps = options.epochs * (len(images) // batch)
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for epoch in range(options.epochs):
        order, total = torch.randperm(len(images)), 0.0
        for first in range(0, len(images) - batch + 1, batch):
            rows = order[first:first + batch]
            loss = torch.nn.functional.cross_entropy(logits(net, images[rows]), classes[rows],
                                                     weights)
            adam.zero_grad()
            loss.backward()
            adam.step()
            rate.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / (len(images) // batch):.4f}", flush=True)
    return net.eval()


def in_bytes(net):
    """Each tensor as (scale, whole numbers of -127 to 127); the network gets these weights."""
    tensors = []
    with torch.no_grad():
        for parameter in net.parameters():
            scale = float(f"{parameter.abs().max().item() / 127:.6e}")
            numbers = torch.round(parameter / scale).clamp(-127, 127)
            parameter.copy_(numbers * scale)
            tensors.append((scale, numbers.numpy().astype(int)))
    return tensors


def in_keras_order(values):
    """[K,C,R,S] -> [R,S,C,K]; the dense layer's rows follow the channels last."""
    if values.ndim == 4:
        return values.transpose(2, 3, 1, 0)
    if values.ndim == 2:
        return values.reshape(11, CHANNELS[-1], 3, 3).transpose(2, 3, 1, 0)
    return values


def source(tensors):
    lines = ["// Made by tools/lab/second_opinion.py.", "// clang-format off",
             '#include "host/recognition/second_opinion_weights.h"', "", "#include <array>", "",
             "namespace mnist {", "namespace {", ""]
    table = []
    for i, (scale, values) in enumerate(tensors):
        numbers = in_keras_order(values).ravel()
        lines.append(f"constexpr std::array<int8_t, {len(numbers)}> kTensor{i}{{")
        line = "   "
        for number in numbers:
            if len(line) + len(f" {number},") > 100:
                lines.append(line)
                line = "   "
            line += f" {number},"
        lines.append(line + "};")
        table.append(f"    {{{scale:.6e}F, kTensor{i}}},")
    lines += [f"constexpr std::array<ScaledWeights, {len(tensors)}> kTensors{{{{", *table, "}};",
              "", "}  // namespace", "",
              f'const char* const kSecondOpinionArch = "{ARCH}";', "",
              "std::span<const ScaledWeights> second_opinion_weights() { return kTensors; }", "",
              "}  // namespace mnist"]
    return "\n".join(lines) + "\n"


def mnist(folder, part):
    def values(kind, header):
        path = next(folder.glob(f"{part}-{kind}*"))
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return np.frombuffer(data, np.uint8, offset=header)
    return values("images", 16).reshape(-1, 28, 28), values("labels", 8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", type=pathlib.Path, required=True)
    parser.add_argument("--fonts", type=pathlib.Path, default="/usr/share/fonts")
    parser.add_argument("--images", type=int, default=60000, help="varied ones of MNIST")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-digit-weight", type=float, default=0.6)
    parser.add_argument("--out", type=pathlib.Path,
                        default="host/recognition/second_opinion_weights.cpp")
    options = parser.parse_args()
    images, classes = training_set(options, *mnist(options.mnist, "train"))
    print(len(images), "images;", np.bincount(classes), flush=True)
    net = trained(options, images, classes)
    options.out.write_text(source(in_bytes(net)), encoding="utf-8")
    digits, labels = mnist(options.mnist, "t10k")
    with torch.no_grad():
        answers = torch.softmax(logits(net, torch.tensor(digits)), 1).numpy()
    print(f"MNIST's test images: {(answers[:, :10].argmax(1) == labels).mean():.4f} right, "
          f"{(answers[:, NO_DIGIT] > 0.5).mean():.4f} called no digit")


if __name__ == "__main__":
    main()
