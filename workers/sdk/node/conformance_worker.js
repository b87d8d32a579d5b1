/* The worker that ../conformance.py asks for, with this library.
 * Arguments: how many deliveries at once (1), then words out of `async`, `raw` and `batch`. */
'use strict';

const millrace = require('./millrace.js');

function handle(event, ctx) {
  switch (event.type.split('.').pop()) {
    case 'retry':
      throw new millrace.Retry('busy', { after: 2.5 });
    case 'drop':
      throw new millrace.Drop('not for us');
    case 'dead':
      throw new millrace.Dead('never');
    case 'emit':
      for (const number of [1, 2]) {
        ctx.emit({ id: `child-${number}`, source: '/worker', type: 'conformance.child' });
      }
      return undefined;
    case 'echo':
      return event.data;
    case 'size':
      return ctx.data.length;
    case 'heartbeat':
      return ctx.heartbeat({ done: 0.5 });
    case 'wait':
      while (!ctx.cancelled);
      throw new millrace.Retry('cancelled');
    default:
      return undefined;
  }
}

async function handleAsync(event, ctx) {
  await null;
  if (event.type !== 'conformance.wait') return handle(event, ctx);
  if (!ctx.signal.aborted) {
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
  }
  throw new millrace.Retry('cancelled');
}

const words = process.argv.slice(2);
const handleOne = words.includes('async') ? handleAsync : handle;

async function handleBatch(batch) {
  for (const ctx of batch) {
    if (ctx.event.type === 'conformance.fail') throw new Error('all of it');
    try {
      const result = words.includes('async') ? await handleOne(ctx.event, ctx)
        : handleOne(ctx.event, ctx);
      if (result !== undefined) ctx.ok(result);
    } catch (error) {
      if (error instanceof millrace.Retry) ctx.retry(error.message, error.answer);
      else if (error instanceof millrace.Drop) ctx.drop(error.message);
      else ctx.dead(error.message);
    }
  }
}

const options = { concurrency: Number(words[0]) || 1, raw: words.includes('raw'), version: '1.0' };
if (words.includes('batch')) millrace.runBatch(handleBatch, options);
else millrace.run(handleOne, options);
