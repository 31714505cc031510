// Shows what the server read: the number, and of one of its digits what the network saw of it and
// the ten probabilities.

const $ = (id) => document.getElementById(id);
const percent = (p) =>
  (p > 0.9994 && p < 1 ? 'over 99.9 %' : `${(100 * p).toFixed(1)} %`).replaceAll(' ', '\u00a0');
const ORDINALS = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth',
                  'ninth', 'tenth'];
const ordinal = (i) => ORDINALS[i] ?? `${i + 1}th`;

function element(tag, text, ...classes) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
}

function paint(canvas, image) {
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(28, 28);
  image.forEach((ink, i) => pixels.data.set([ink, ink, ink, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

function doubt({digit, probability, runner_up: other}) {
  return `${digit} (${percent(probability)}) or ${other ?? 'no digit'}`;
}

// In words, for everyone.
export function sentence({digits, number, reason}) {
  if (digits.length === 0) return `No digit: ${reason}.`;
  const doubtful = digits.filter((digit) => digit.unsure);
  if (digits.length === 1)
    return doubtful.length ? `Unsure: perhaps ${doubt(digits[0])}.` :
      `A ${digits[0].digit}, ${percent(digits[0].probability)}.`;
  const read = `${number.replaceAll('\n', ', ')}: ${digits.length} digits.`;
  if (doubtful.length === 0) return read;
  if (doubtful.length > 3) return `${read} Unsure of ${doubtful.length} of them.`;
  return `${read} Unsure of the ${doubtful.map(
    (digit) => `${ordinal(digits.indexOf(digit))}, ${doubt(digit)}`).join('; the ')}.`;
}

export class Result {
  #answer = null;
  #chosen = 0;
  #speech = 0;

  constructor() {
    const rows = $('probabilities');
    for (let digit = 0; digit < 10; ++digit) {
      const row = rows.insertRow();
      const head = element('th', digit);
      head.scope = 'row';
      const value = element('td', '');
      value.append(element('div', '', 'bar'), element('span', ''));
      row.append(head, value);
    }
    this.clear('Nothing is drawn yet.');
  }

  // `around`: where the picture lies in its frame, from 0 to 1; `images`: paint the digits there,
  // since the browser cannot show the picture.
  show(answer, {around, images, clickable}) {
    const several = answer.digits.length !== this.#answer?.digits.length;
    this.#answer = answer;
    if (several) this.#chosen = 0;
    this.#problem('');
    this.#say(sentence(answer));
    const boxes = $('boxes');
    boxes.classList.toggle('clickable', clickable);
    Object.assign(boxes.style, Object.fromEntries(
      Object.entries(around).map(([side, part]) => [side, `${100 * part}%`])));
    boxes.replaceChildren(...answer.digits.map((digit, i) => this.#box(digit, i, images)));
    this.#showNumber();
    this.choose(this.#chosen);
  }

  clear(words) {
    this.#answer = null;
    this.#chosen = 0;
    this.#problem('');
    this.#say(words);
    $('boxes').replaceChildren();
    $('number').replaceChildren();
    this.#detail(null);
  }

  wait(words) {
    $('words').textContent = words;
    $('number').classList.add('still');
  }

  fail(words) {
    this.clear('');
    this.#problem(words);
  }

  // The last answer stays, as the last one.
  stall(words) {
    this.#problem(`${words} Trying again.`);
    $('number').classList.add('still');
  }

  choose(i) {
    this.#chosen = i;
    for (const part of [$('number').querySelectorAll('button'), $('boxes').children])
      [...part].forEach((digit, k) => {
        digit.classList.toggle('chosen', k === i);
        if (digit.tagName === 'BUTTON') digit.setAttribute('aria-pressed', k === i);
      });
    this.#detail(this.#answer?.digits[i] ?? null);
  }

  // Buttons are changed, not made anew, so that the focus stays on them.
  #showNumber() {
    const {digits} = this.#answer;
    const number = $('number');
    number.className = digits.length > 24 ? 'very-long' : digits.length > 5 ? 'long' : '';
    const old = [...number.querySelectorAll('button')];
    number.querySelectorAll('i').forEach((brk) => brk.remove());
    digits.forEach((digit, i) => {
      const button = old[i] ?? element('button', '');
      button.type = 'button';
      button.textContent = digit.digit;
      button.classList.toggle('unsure', digit.unsure);
      button.ariaLabel = `${digit.digit}${digit.unsure ? ', unsure' : ''}`;
      button.onclick = () => this.choose(i);
      if (i > 0 && digit.line !== digits[i - 1].line) number.append(element('i', ''));
      number.append(button);
    });
    old.slice(digits.length).forEach((button) => button.remove());
  }

  #box(digit, i, images) {
    const {width, height} = this.#answer;
    const [x, y, w, h] = digit.box;
    const box = element('span', '', digit.unsure && 'unsure', y < 0.08 * height && 'low');
    Object.assign(box.style, {
      left: `${100 * x / width}%`, top: `${100 * y / height}%`,
      width: `${100 * w / width}%`, height: `${100 * h / height}%`});
    box.append(element('b', digit.digit));
    if (images) {
      const canvas = Object.assign(document.createElement('canvas'), {width: 28, height: 28});
      paint(canvas, digit.image);
      box.append(canvas);
    }
    box.onclick = () => this.choose(i);
    return box;
  }

  #detail(digit) {
    $('detail').classList.toggle('empty', digit === null);
    paint($('seen'), digit?.image ?? Array(784).fill(0));
    const several = (this.#answer?.digits.length ?? 0) > 1;
    $('which').textContent =
      `Probabilities${several ? ` of the ${ordinal(this.#chosen)} digit` : ''}`;
    [...$('probabilities').rows].forEach((row, i) => {
      const p = digit?.probabilities[i] ?? 0;
      row.classList.toggle('best', i === digit?.digit);
      row.querySelector('span').textContent = digit ? percent(p) : '';
      row.querySelector('.bar').style.transform = `scaleX(${p})`;
    });
  }

  #problem(words) {
    if ($('problem').textContent !== words) $('problem').textContent = words;
    if (words === '') $('number').classList.remove('still');
  }

  // A screen reader hears the words once they rest.
  #say(words) {
    $('words').textContent = words;
    clearTimeout(this.#speech);
    this.#speech = setTimeout(() => { $('spoken').textContent = words; }, 800);
  }
}
