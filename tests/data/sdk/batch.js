// What tests/integration/test_sdk.py asks a worker of batches in Node for: the event's type says what.
'use strict';

const fs = require('fs');
const { once } = require('events');
const millrace = require('millrace');

async function handle(batch) {
  fs.appendFileSync('batches', batch.map((ctx) => ctx.event.id).join(' ') + '\n');
  for (const ctx of batch) {
    switch (ctx.event.type) {
      case 'fail':
        throw new Error('the batch is no good');
      case 'panic':
        throw null.nothing;
      case 'hang':
        if (!ctx.signal.aborted) await once(ctx.signal, 'abort');
        fs.writeFileSync('told', 'cancelled');
        throw new Error('given up');
      case 'result':
        ctx.ok({ n: 1 });
        break;
      case 'retry':
        ctx.retry('busy', { after: 3600 });
        break;
      case 'dead':
        ctx.dead('never');
        break;
      case 'emit':
        ctx.emit({ id: `child of ${ctx.event.id}`, source: '/worker', type: 'child' });
        break;
      default:
    }
  }
}

millrace.runBatch(handle, { concurrency: 4 });
