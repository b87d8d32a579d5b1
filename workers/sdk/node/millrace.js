/* A worker of Millrace in Node.js: one file, nothing but the standard library, Node 18 or later.
 *
 *     const millrace = require('millrace');
 *
 *     millrace.run(async (event, ctx) => {
 *       console.log(event.type, event.data);                      // goes to Millrace's log
 *       if (await busy()) throw new millrace.Retry('busy', { after: 5 });  // seconds
 *     }, { concurrency: 8 });
 *
 * `event` is the CloudEvent as an object; bytes that came as data_base64 are in ctx.data. What the
 * handler returns, or its promise gives, is the result data of the delivery (anything JSON can say;
 * null, undefined: no data). The delivery is retried when the handler throws, with the exception as
 * error; Retry, Drop and Dead say something else.
 *
 * With `concurrency: 8` up to eight deliveries are in the hands of the handler at once, as far as it
 * awaits; a handler that never does handles them one after the other. The worker's `concurrency` in
 * Millrace's configuration is the upper bound. More processors are used by more instances.
 *
 * For a subscription with `batch` the handler gets a list of contexts:
 *
 *     millrace.runBatch(async (batch) => {
 *       for (const ctx of batch) {
 *         if (!await store(ctx.event)) ctx.retry('busy', { after: 5 });  // the others are done
 *       }
 *     });
 *
 * The protocol below this is docs/worker-protocol.md. */
'use strict';

const fs = require('fs');
const net = require('net');
const { performance } = require('perf_hooks');

const FLUSH_MS = 2; // answers wait at most this long for others to go with them
const LOOK_MS = 2; // a handler that never awaits looks for cancel frames so often
const READ_SIZE = 65536;
const KEEP_SIZE = 1 << 20; // a buffer that grew beyond this is given back once it is empty
const NEWLINE = 10;

class Verdict extends Error {
  constructor(verdict, error, { after, data } = {}) {
    super(error === undefined ? verdict : String(error));
    this.name = new.target.name;
    this.answer = { verdict, error: error === undefined ? undefined : String(error), after, data };
  }
}

/** Try again: after the schedule of the subscription, or `after` seconds (or "1m30s"). */
class Retry extends Verdict {
  constructor(error, more) {
    super('retry', error, more);
  }
}

/** Handled by doing nothing; it ends as `dropped`, with the reason. */
class Drop extends Verdict {
  constructor(error, more) {
    super('drop', error, more);
  }
}

/** No attempt will ever help; it goes to the dead letters, with the reason. */
class Dead extends Verdict {
  constructor(error, more) {
    super('dead', error, more);
  }
}

function isJson(event) {
  const type = (event.datacontenttype || 'application/json').split(';')[0].trim().toLowerCase();
  return type.endsWith('/json') || type.endsWith('+json');
}

/** What a handler knows about its delivery and may say while it runs. */
class Context {
  #worker;
  #data;
  #cancelled = false;
  #controller = null;
  #emitted = null;
  #said;

  constructor(worker, frame, data) {
    this.#worker = worker;
    this.#data = data;
    this.delivery = frame.delivery; // the same for all attempts: use it to be idempotent
    this.attempt = frame.attempt === undefined ? 1 : frame.attempt;
    this.last = frame.last === true; // a retry now ends it
    this.deadline = frame.deadline;
    this.event = frame.event || {};
  }

  /** The data as a Buffer, however it came; null when there is none. */
  get data() {
    if (this.#data === undefined) {
      const { data, data_base64: base64 } = this.event;
      if (base64 !== undefined) {
        this.#data = Buffer.from(base64, 'base64');
      } else if (data === undefined) {
        this.#data = null;
      } else {
        const plain = typeof data === 'string' && !isJson(this.event);
        this.#data = Buffer.from(plain ? data : JSON.stringify(data));
      }
    }
    return this.#data;
  }

  /** Emits a CloudEvent (an object with at least id, source, type) if the handler succeeds. */
  emit(event) {
    (this.#emitted ||= []).push({ specversion: '1.0', ...event });
  }

  // In a batch, where a handler cannot return or throw for one of them:

  /** This delivery is done, with result data. */
  ok(data) {
    this.#said = { verdict: 'ok', data: data === null ? undefined : data };
  }

  /** This delivery is tried again, at the cost of an attempt. */
  retry(error, more) {
    this.#said = new Retry(error, more).answer;
  }

  drop(error) {
    this.#said = new Drop(error).answer;
  }

  dead(error) {
    this.#said = new Dead(error).answer;
  }

  /** For the library: what the handler of a batch said of it, or undefined. */
  _verdict() {
    return this.#said;
  }

  /** Says that the handler is alive, which extends its time. */
  heartbeat(progress) {
    this.#worker.send({ heartbeat: this.delivery, progress });
    this.#worker.flush();
  }

  /** Whether Millrace gave the delivery up; a long handler looks now and then and returns. */
  get cancelled() {
    if (!this.#cancelled) this.#worker.look();
    return this.#cancelled;
  }

  /** The same as an AbortSignal, for fetch() and all that takes one. */
  get signal() {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.#cancelled) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  /** For the library: Millrace gave it up. */
  _cancel() {
    this.#cancelled = true;
    if (this.#controller !== null) this.#controller.abort();
  }

  /** For the library: what was emitted, or undefined. */
  _events() {
    return this.#emitted === null ? undefined : this.#emitted;
  }
}

/** Cuts what is read into frames. */
class Frames {
  constructor() {
    this.buffer = Buffer.allocUnsafe(2 * READ_SIZE);
    this.size = 0; // bytes in the buffer
    this.scanned = 0; // of them, those known to hold no newline
    this.raw = null; // a frame whose data, `rawSize` bytes, is not yet complete
    this.rawSize = 0;
  }

  add(chunk) {
    const size = this.size + chunk.length;
    if (size > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(size, 2 * this.buffer.length));
      this.buffer.copy(grown, 0, 0, this.size);
      this.buffer = grown;
    }
    chunk.copy(this.buffer, this.size);
    this.size = size;
  }

  /** Calls take(frame, data) for each complete frame; data is undefined unless it came raw. */
  cut(take) {
    let from = 0;
    for (;;) {
      if (this.raw !== null) {
        if (this.size - from < this.rawSize) break;
        const data = Buffer.from(this.buffer.subarray(from, from + this.rawSize));
        const frame = this.raw;
        from += this.rawSize;
        this.raw = null;
        take(frame, data);
        continue;
      }
      const end = this.buffer.subarray(0, this.size).indexOf(NEWLINE, Math.max(from, this.scanned));
      if (end < 0) break;
      const frame = JSON.parse(this.buffer.toString('utf8', from, end));
      from = end + 1;
      if (frame.data_size === undefined) {
        take(frame, undefined);
      } else {
        this.raw = frame;
        this.rawSize = frame.data_size;
      }
    }
    this.buffer.copyWithin(0, from, this.size);
    this.size -= from;
    this.scanned = this.raw === null ? this.size : 0;
    if (this.size === 0 && this.buffer.length > KEEP_SIZE) {
      this.buffer = Buffer.allocUnsafe(2 * READ_SIZE);
    }
  }
}

class Worker {
  constructor(handle, options, ended) {
    this.handle = handle;
    this.fd = options.fd === undefined ? 3 : options.fd;
    this.ended = ended; // called once all is answered and sent
    this.frames = new Frames();
    this.batches = options.batches === true;
    this.open = null; // the batch whose deliveries are coming
    this.todo = []; // taken over and not begun: {frame, data}, or batches: {members: […]}
    this.running = new Map(); // delivery -> context
    this.out = ''; // answers not yet sent
    this.inTurn = false; // the loop over todo runs
    this.scheduled = false; // a flush is due
    this.stopping = false;
    this.gone = false; // the end of input, or of the socket
    this.looked = 0;
    this.spare = null; // what look() reads into
    this.take = this.take.bind(this);
  }

  start(hello) {
    this.socket = new net.Socket({
      fd: this.fd,
      readable: true,
      writable: true,
      allowHalfOpen: true,
      onread: {
        buffer: Buffer.allocUnsafe(READ_SIZE),
        callback: (size, buffer) => {
          this.read(buffer.subarray(0, size));
          return true;
        },
      },
    });
    this.socket.on('end', () => this.leave());
    this.socket.on('error', () => this.leave()); // Millrace is gone: there is nobody to tell
    this.send(hello);
    this.flush();
    this.socket.resume();
  }

  // --- frames -------------------------------------------------------------------------------------

  send(frame) {
    this.out += JSON.stringify(frame) + '\n';
  }

  flush() {
    if (this.out !== '') {
      const text = this.out;
      this.out = '';
      if (!this.socket.destroyed) this.socket.write(text);
    }
  }

  /** Flushes once all that is ready now has been answered. */
  flushSoon() {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.flush();
      this.endIfDone();
    });
  }

  read(chunk) {
    this.frames.add(chunk);
    this.frames.cut(this.take);
    if (!this.inTurn) this.workInTurn();
  }

  take(frame, data) {
    if (frame.delivery !== undefined) {
      this.gather({ frame, data });
    } else if (frame.batch !== undefined) {
      this.open = { number: frame.batch, count: frame.count, members: [] };
    } else if (frame.cancel !== undefined) {
      this.cancel(frame.cancel);
    } else if (frame.stop === true) {
      this.stopping = true;
    }
  }

  gather(one) {
    if (!this.batches) {
      this.todo.push(one);
      return;
    }
    const batch = this.open === null ? { count: 1, members: [] } : this.open;
    batch.members.push(one);
    if (batch.members.length === batch.count) {
      this.open = null;
      this.todo.push(batch);
    }
  }

  cancel(delivery) {
    const context = this.running.get(delivery);
    if (context !== undefined) {
      context._cancel();
      return;
    }
    for (const batch of this.batches ? this.todo : []) {
      const member = batch.members.find((one) => one.frame.delivery === delivery);
      if (member !== undefined) member.cancelled = true;
    }
    const at = this.batches ? -1
      : this.todo.findIndex((one) => one.frame.delivery === delivery);
    if (at >= 0) { // not begun: give it back
      this.todo.splice(at, 1);
      this.send({ delivery, verdict: 'retry', error: 'cancelled before it began' });
      this.flush();
    }
  }

  /** Takes the frames that came while a handler keeps the event loop from it. */
  look() {
    const now = performance.now();
    if (now - this.looked < LOOK_MS || this.gone) return;
    this.looked = now;
    this.spare ||= Buffer.allocUnsafe(READ_SIZE);
    let size;
    try {
      size = fs.readSync(this.fd, this.spare);
    } catch (error) {
      if (error.code !== 'EAGAIN') this.leave();
      return;
    }
    if (size === 0) {
      this.leave();
    } else {
      this.frames.add(this.spare.subarray(0, size));
      this.frames.cut(this.take);
      if (!this.inTurn && this.todo.length > 0) setImmediate(() => this.read(Buffer.alloc(0)));
    }
  }

  /** Nobody waits for answers any more. */
  leave() {
    if (this.gone) return;
    this.gone = true;
    this.stopping = true;
    this.todo.length = 0;
    for (const context of this.running.values()) context._cancel();
    this.flushSoon();
  }

  // --- deliveries ---------------------------------------------------------------------------------

  workInTurn() {
    this.inTurn = true;
    let last = performance.now();
    for (let one = this.todo.shift(); one !== undefined; one = this.todo.shift()) {
      if (this.batches) {
        this.beginBatch(one);
      } else {
        this.begin(one.frame, one.data);
      }
      const now = performance.now();
      if (now - last > FLUSH_MS) {
        this.flush();
        last = now;
      }
    }
    this.inTurn = false;
    this.flush();
    this.endIfDone();
  }

  begin(frame, data) {
    const context = new Context(this, frame, data);
    this.running.set(context.delivery, context);
    let result;
    try {
      result = this.handle(context.event, context);
    } catch (error) {
      this.fail(context, error);
      return;
    }
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
      result.then((value) => this.succeed(context, value), (error) => this.fail(context, error));
    } else {
      this.succeed(context, result);
    }
  }

  beginBatch(batch) {
    const contexts = batch.members.map(({ frame, data, cancelled }) => {
      const context = new Context(this, frame, data);
      if (cancelled || this.gone) context._cancel();
      this.running.set(context.delivery, context);
      return context;
    });
    const done = () => this.endBatch(batch, contexts, { verdict: 'ok' });
    const failed = (error) => this.endBatch(batch, contexts, this.answerOf(error));
    let result;
    try {
      result = this.handle(contexts);
    } catch (error) {
      failed(error);
      return;
    }
    if (result !== null && typeof result === 'object' && typeof result.then === 'function') {
      result.then(done, failed);
    } else {
      done();
    }
  }

  /** What the handler said of each, and `whole` of those it said nothing of. */
  endBatch(batch, contexts, whole) {
    let left = false;
    for (const context of contexts) {
      const said = context._verdict();
      const together = batch.number !== undefined && (whole.verdict === 'retry' ||
        (whole.verdict === 'ok' && context._events() === undefined));
      if (said !== undefined || !together) {
        this.answer(context, said === undefined ? whole : said);
      } else {
        left = true;
        this.running.delete(context.delivery);
      }
    }
    if (left) this.send({ batch: batch.number, ...whole, data: undefined });
    if (!this.inTurn) this.flushSoon();
  }

  succeed(context, result) {
    this.answer(context, { verdict: 'ok', data: result === null ? undefined : result });
  }

  fail(context, error) {
    this.answer(context, this.answerOf(error));
  }

  answerOf(error) {
    if (error instanceof Verdict) return error.answer;
    console.error(error);
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return { verdict: 'retry', error: text };
  }

  answer(context, answer) {
    const { delivery } = context;
    const events = answer.verdict === 'retry' ? undefined : context._events();
    try {
      this.send({ delivery, ...answer, events });
    } catch (error) {
      this.send({ delivery, verdict: 'retry', error: `the result is no JSON: ${error.message}` });
    }
    this.running.delete(delivery);
    if (!this.inTurn) this.flushSoon();
  }

  endIfDone() {
    if (this.stopping && this.running.size === 0 && this.todo.length === 0 && this.out === '') {
      this.gone = true;
      this.stopping = false; // once
      this.socket.end(() => this.socket.destroy());
      this.ended();
    }
  }
}

/**
 * Serves deliveries until Millrace says stop; then the promise it returns is kept, and the process
 * ends by itself unless something else is still open: close it after `await millrace.run(…)`.
 *
 * @param {(event: object, ctx: Context) => any} handle
 * @param {object} [options]
 * @param {number} [options.concurrency] deliveries taken over at once (1)
 * @param {string} [options.version] shown with each attempt
 * @param {boolean} [options.raw] the data is not parsed: it comes as bytes in ctx.data alone
 * @param {number} [options.fd] the socket's descriptor (3)
 * @returns {Promise<void>}
 */
function run(handle, options = {}) {
  const fd = options.fd === undefined ? 3 : options.fd;
  let isSocket = false;
  try {
    isSocket = fs.fstatSync(fd).isSocket();
  } catch (error) {
    if (error.code !== 'EBADF') throw error;
  }
  if (!isSocket) {
    console.error(`millrace: descriptor ${fd} is no socket; is this started by Millrace?`);
    process.exit(1);
  }
  return new Promise((resolve) => {
    const features = ['cancel', 'progress'];
    if (options.raw) features.push('raw');
    if (options.batches) features.push('batch');
    const max = Math.max(1, Math.trunc(options.concurrency || 1));
    const hello = { millrace: 1, max, features };
    if (options.version !== undefined) hello.version = String(options.version);
    new Worker(handle, options, resolve).start(hello);
  });
}

/**
 * The same for batches: the handler gets a list of contexts, each with its `event`, and may say
 * `ctx.retry(…)`, `ctx.dead(…)`, `ctx.drop(…)`, `ctx.ok(data)` of each. What it said nothing of is
 * done when it returns; when it throws, it failed as a whole: Millrace takes that back and tries it
 * again in halves, at no cost, until one is alone.
 *
 * @param {(batch: Context[]) => any} handle
 * @param {object} [options] as above; `concurrency` counts batches
 * @returns {Promise<void>}
 */
function runBatch(handle, options = {}) {
  return run(handle, { ...options, batches: true });
}

module.exports = { run, runBatch, Retry, Drop, Dead, Context };
