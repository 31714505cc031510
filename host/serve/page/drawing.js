// Strokes on paper. They are kept as points, so that they can be taken back and drawn at any size.

export const PAPER = {width: 640, height: 480};  // the unit of all coordinates
const SENT = {width: 320, height: 240};          // pixels, of what the server gets

export class Drawing {
  #canvas;
  #shown;  // contexts in which one unit is one unit of the paper
  #sent;
  #open = null;  // the stroke that is being drawn
  strokes = [];  // never changed in place: old lists are states to go back to

  constructor(canvas) {
    this.#canvas = canvas;
    this.#shown = canvas.getContext('2d');
    const sent = Object.assign(document.createElement('canvas'), SENT);
    this.#sent = sent.getContext('2d', {willReadFrequently: true});
    this.#sent.scale(SENT.width / PAPER.width, SENT.height / PAPER.height);
    new ResizeObserver(() => this.fit()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.redraw());
    this.fit();
  }

  get drawing() { return this.#open !== null; }

  // A point of the page, in units of the paper.
  place({clientX, clientY}) {
    const {left, top, width, height} = this.#canvas.getBoundingClientRect();
    return {x: (clientX - left) / width * PAPER.width, y: (clientY - top) / height * PAPER.height};
  }

  begin(point) {
    this.#open = [point];
    this.strokes = [...this.strokes, this.#open];
    this.#draw([point]);
  }

  extend(point) {
    const last = this.#open.at(-1);
    if (Math.hypot(point.x - last.x, point.y - last.y) < 1) return;
    this.#open.push(point);
    this.#draw(this.#open.slice(-3));
  }

  end() {
    this.#draw(this.#open.slice(-2), true);
    this.#open = null;
  }

  show(strokes) {
    this.#open = null;
    this.strokes = strokes;
    this.redraw();
  }

  redraw() {
    for (const context of [this.#shown, this.#sent])
      context.clearRect(0, 0, PAPER.width, PAPER.height);
    this.#sent.fillStyle = this.#sent.strokeStyle = '#000';
    this.#shown.fillStyle = this.#shown.strokeStyle = getComputedStyle(this.#canvas).color;
    for (const stroke of this.strokes) {
      this.#draw(stroke.slice(0, 1));
      for (let i = 2; i <= stroke.length; ++i) this.#draw(stroke.slice(Math.max(0, i - 3), i));
      if (stroke !== this.#open) this.#draw(stroke.slice(-2), true);
    }
  }

  // As many pixels as the screen has there.
  fit() {
    const {width, height} = this.#canvas.getBoundingClientRect();
    if (width === 0) return;
    this.#canvas.width = Math.round(width * devicePixelRatio);
    this.#canvas.height = Math.round(height * devicePixelRatio);
    this.#shown.setTransform(this.#canvas.width / PAPER.width, 0, 0,
                             this.#canvas.height / PAPER.height, 0, 0);
    this.redraw();
  }

  // Black on white, as the bytes of a PGM file.
  file() {
    const {data} = this.#sent.getImageData(0, 0, SENT.width, SENT.height);
    const head = new TextEncoder().encode(`P5\n${SENT.width} ${SENT.height}\n255\n`);
    const bytes = new Uint8Array(head.length + data.length / 4);
    bytes.set(head);
    for (let i = head.length, alpha = 3; alpha < data.length; ++i, alpha += 4)
      bytes[i] = 255 - data[alpha];
    return new Blob([bytes], {type: 'image/x-portable-graymap'});
  }

  // The newest piece of a stroke: a dot; or from the middle between two points to the next middle,
  // bent towards the point between them; or, at the end, the last half.
  #draw(points, last = false) {
    const middle = (a, b) => ({x: (a.x + b.x) / 2, y: (a.y + b.y) / 2});
    const [end, before, start] = [points.at(-1), points.at(-2), points.at(-3)];
    for (const context of [this.#shown, this.#sent]) {
      context.lineWidth = end.width;
      context.lineCap = context.lineJoin = 'round';
      context.beginPath();
      if (!before) {
        context.arc(end.x, end.y, end.width / 2, 0, 2 * Math.PI);
        context.fill();
        continue;
      }
      const to = last ? end : middle(before, end);
      const from = last ? middle(before, end) : start ? middle(start, before) : before;
      context.moveTo(from.x, from.y);
      context.quadraticCurveTo(last ? to.x : before.x, last ? to.y : before.y, to.x, to.y);
      context.stroke();
    }
  }
}
