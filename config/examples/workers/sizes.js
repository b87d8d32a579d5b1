// A worker in Node: eight deliveries at once, as far as the handler awaits.
'use strict';

const millrace = require('millrace');

millrace.run(async (event, ctx) => {
  if (ctx.data === null) throw new millrace.Drop('no data');
  console.log(ctx.delivery, ctx.data.length, 'bytes'); // goes to Millrace's log
  return { bytes: ctx.data.length }; // the result data, for on_success
}, { concurrency: 8 });
