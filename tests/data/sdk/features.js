// What tests/integration/test_sdk.py asks a worker in Node for: the event's type says what.
'use strict';

const fs = require('fs');
const { once } = require('events');
const { setTimeout: pause } = require('timers/promises');
const millrace = require('millrace');

async function handle(event, ctx) {
  switch (event.type) {
    case 'fail':
      if (ctx.attempt === 1) throw new Error('the first is no good');
      return null;
    case 'panic':
      return ctx.attempt === 1 ? null.nothing : null;
    case 'nojson': {
      const result = {};
      result.itself = result;
      return result;
    }
    case 'emit':
      ctx.emit({ id: 'child of emit', source: '/worker', type: 'child', data: { a: 1 } });
      return { emitted: 1 };
    case 'later':
      if (!ctx.last && ctx.attempt === 1) throw new millrace.Retry('later', { after: 0.05 });
      return null;
    case 'bytes':
      throw new millrace.Dead(`${ctx.data.length} bytes`);
    case 'long':
      for (let i = 0; i < 60; i++) {
        await pause(100);
        ctx.heartbeat({ done: i / 60 });
      }
      return null;
    case 'stuck':
      if (!ctx.signal.aborted) await once(ctx.signal, 'abort');
      fs.writeFileSync('told', 'cancelled');
      throw new millrace.Dead('stuck');
    case 'spinning':
      while (!ctx.cancelled);
      throw new millrace.Dead('spun');
    case 'slow':
      fs.writeFileSync('started', '');
      while (!fs.existsSync('go')) await pause(10);
      return null;
    default:
      return null;
  }
}

millrace.run(handle, { concurrency: 16, raw: true }).then(() => fs.writeFileSync('ended', ''));
