// The page: what mouse, pen, finger, keyboard, clipboard and files do.

import {Drawing, PAPER} from './drawing.js';
import {Reader} from './reader.js';
import {Result} from './result.js';

const MAX_BYTES = 64_000_000;  // as the server has it

const $ = (id) => document.getElementById(id);
const [paper, picture, board] = [$('paper'), $('picture'), $('board')];
const drawing = new Drawing(paper);
const result = new Result();
const reader = new Reader(show);
const nothing = {strokes: [], file: null};
let past = [];       // states to go back to, the newest last
let file = null;     // the chosen picture, in place of the drawing
let preview = null;  // whether the browser can show it; null: not known yet

// --- questions and answers -----------------------------------------------------------------------

function query() {
  return {invert: $('invert').value, single: $('single').checked ? 1 : 0};
}

function ask(since = performance.now()) {
  if (file) {
    result.wait('Reading the picture ...');
    const asked = file;
    reader.ask({file: () => asked, query: query(), since});
  } else if (drawing.strokes.length) {
    reader.ask({file: () => drawing.file(), query: query(), since});
  }
}

function show(answer, {since}) {
  if (answer.waiting) return result.stall(answer.waiting);
  if (answer.error) return result.fail(answer.error);
  result.show(answer, {
    around: placeOf(answer), images: preview === false, clickable: file !== null});
  performance.clearMeasures('answer');
  performance.measure('answer', {start: since});  // since the pointer was there
}

// Where a picture of that shape lies on the board.
function placeOf({width, height}) {
  const scale = Math.min(PAPER.width / width, PAPER.height / height);
  const [w, h] = [width * scale / PAPER.width, height * scale / PAPER.height];
  return {left: (1 - w) / 2, top: (1 - h) / 2, width: w, height: h};
}

// --- states --------------------------------------------------------------------------------------

function remember() {
  past.push({strokes: drawing.strokes, file});
  if (past.length > 1000) past.shift();
}

function restore(state) {
  reader.forget();
  file = state.file;
  drawing.show(state.strokes);
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.removeAttribute('src');
  preview = null;
  if (file) picture.src = URL.createObjectURL(file);
  result.clear(file ? '' : 'Nothing is drawn yet.');
  refresh();
  ask();
}

function refresh() {
  const empty = !file && drawing.strokes.length === 0;
  picture.hidden = !preview;
  $('no-preview').hidden = preview !== false;
  paper.hidden = file !== null;
  $('hint').hidden = !empty;
  $('undo').disabled = past.length === 0;
  $('clear').disabled = empty;
  $('clear').textContent = file ? 'Remove' : 'Clear';
}

function undo() {
  if (past.length && !drawing.drawing) restore(past.pop());
}

function clear() {
  if ($('clear').disabled || drawing.drawing) return;
  remember();
  restore(nothing);
}

function open(chosen) {
  if (!chosen || drawing.drawing) return;
  if (chosen.size > MAX_BYTES)
    return result.fail(`${chosen.name} has ${(chosen.size / 1e6).toFixed(0)} MB; at most 64 MB ` +
                       'are read. Save it smaller.');
  remember();
  restore({strokes: [], file: chosen});
}

picture.onload = () => { preview = true; refresh(); };
picture.onerror = () => {
  if (!file) return;
  preview = false;
  refresh();
  ask();  // with its answer the digits themselves are shown
};

// --- the paper -----------------------------------------------------------------------------------

function penWidth(event) {
  const pressed = event.pointerType === 'pen' && event.pressure > 0 ? 0.5 + event.pressure : 1;
  return $('width').value * pressed;
}

function pointOf(event) {
  return {...drawing.place(event), width: penWidth(event)};
}

function begin(point, since) {
  remember();
  drawing.begin(point);
  refresh();
  ask(since);
}

let pointer = null;  // of the stroke that is being drawn
paper.onpointerdown = (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  paper.setPointerCapture(pointer);
  liftPen();
  begin(pointOf(event), event.timeStamp);
};
paper.onpointermove = (event) => {
  if (event.pointerId !== pointer) return;
  const moves = event.getCoalescedEvents();
  for (const move of moves.length ? moves : [event]) drawing.extend(pointOf(move));
  ask(event.timeStamp);
};
paper.onpointerup = paper.onpointercancel = (event) => {
  if (event.pointerId !== pointer) return;
  pointer = null;
  drawing.end();
  ask(event.timeStamp);
};

// The pen that the keyboard moves.
const pen = {x: PAPER.width / 2, y: PAPER.height / 4, down: false};
const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

function showPen() {
  $('pen').hidden = false;
  $('pen').classList.toggle('down', pen.down);
  Object.assign($('pen').style, {
    left: `${100 * pen.x / PAPER.width}%`, top: `${100 * pen.y / PAPER.height}%`});
}

function liftPen() {
  if (pen.down) drawing.end();
  pen.down = false;
  $('pen').hidden = true;
}

paper.onblur = liftPen;
paper.onkeydown = (event) => {
  if (pointer !== null || event.ctrlKey || event.metaKey || event.altKey) return;
  const width = Number($('width').value);
  if (event.key in STEPS) {
    const [dx, dy] = STEPS[event.key], step = event.shiftKey ? 4 : 16;
    pen.x = Math.min(PAPER.width, Math.max(0, pen.x + step * dx));
    pen.y = Math.min(PAPER.height, Math.max(0, pen.y + step * dy));
    if (pen.down) drawing.extend({x: pen.x, y: pen.y, width});
  } else if (event.key === ' ') {
    pen.down = !pen.down;
    if (pen.down) begin({x: pen.x, y: pen.y, width}, event.timeStamp);
    else drawing.end();
  } else {
    return;
  }
  event.preventDefault();
  showPen();
  if (drawing.strokes.length) ask(event.timeStamp);
};

// --- controls ------------------------------------------------------------------------------------

$('undo').onclick = undo;
$('clear').onclick = clear;
$('file').onchange = () => {
  open($('file').files[0]);
  $('file').value = '';  // the same file can be chosen again
};
$('invert').onchange = $('single').onchange = () => ask();

function widen(by) {
  $('width').value = Number($('width').value) + by;
}

const KEYS = {
  z: () => { liftPen(); undo(); }, c: () => { liftPen(); clear(); }, o: () => $('file').click(),
  '[': () => widen(-6), ']': () => widen(6)};
document.addEventListener('keydown', (event) => {
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  if (event.altKey || event.target.tagName === 'SELECT' || (command && key !== 'z')) return;
  if (!(key in KEYS)) return;
  event.preventDefault();
  KEYS[key]();
});

document.addEventListener('paste', (event) => {
  const pasted = [...event.clipboardData.files][0];
  if (pasted) open(pasted);
  else result.fail('There is no picture in the clipboard.');
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  board.classList.add('target');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) board.classList.remove('target');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  board.classList.remove('target');
  const dropped = event.dataTransfer.files[0];
  if (dropped) open(dropped);
  else result.fail('Drop a picture file here; from another window, save the picture first.');
});

// --- what the server serves ----------------------------------------------------------------------

refresh();
fetch('/api/about').then((response) => response.json()).then(({model, device, report}) => {
  $('about').textContent = `${model.split('/').pop()} on ${device}`;
  $('about').title = model;
  $('report').hidden = !report;
}).catch(() => {});
