// One JSON document a line, both ways. Each line that comes in is handed to `handle`, one after the other; what that
// returns is the answer.
'use strict';
const readline = require('node:readline');

module.exports = (handle) => {
  let last = Promise.resolve();
  readline.createInterface({input: process.stdin}).on('line', (line) => {
    last = last
      .then(() => handle(JSON.parse(line)))
      .then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`))
      .catch((error) => {
        process.stderr.write(`${error.stack}\n`);
        process.exit(1);
      });
  });
};
