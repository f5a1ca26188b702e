// The action's entry: the environment of a step in, its exit code out.
import { main } from './lib/main.js';

process.exitCode = await main({
  env: process.env,
  print: (text) => process.stdout.write(text),
  onCancel: (cancel) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => cancel(signal));
  },
});
