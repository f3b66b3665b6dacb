// Tells the runner how tests ended: a line each in $RESULTS. Everything else goes to the log.
import { appendFileSync } from "node:fs";
import { basename } from "node:path";

const verdict = (passed, data) => (data.skip !== undefined || data.todo !== undefined ? "skip" : passed ? "pass" : "fail");

export default async function* report(events) {
  const names = []; // of the test that runs and of those around it
  for await (const { type, data } of events) {
    if (type === "test:start") {
      names.length = data.nesting;
      names.push(data.name);
    } else if (type === "test:pass" || type === "test:fail") {
      names.length = data.nesting;
      const passed = type === "test:pass";
      const cause = data.details?.error?.cause ?? data.details?.error;
      const message = passed ? "" : String(cause?.message ?? cause).split("\n")[0];
      const id = [basename(data.file ?? "", ".test.js"), ...names, basename(data.name)].join(" > ").replace(/["\s]+/g, " ");
      // Of what only holds other tests, those tell.
      // Of a whole file there is word only if it could not be run to its end.
      if (data.details?.type !== "suite" || (!passed && data.name.endsWith(".test.js"))) {
        appendFileSync(process.env.RESULTS, `${verdict(passed, data)}\t${id}\t${message.replace(/\s+/g, " ")}\n`);
      }
      yield `${passed ? "ok" : "FAIL"} ${id} (${Math.round(data.details?.duration_ms ?? 0)} ms)\n`;
      if (!passed) yield `${cause?.stack ?? cause}\n`;
    } else if (type === "test:stdout" || type === "test:stderr") {
      yield data.message;
    }
  }
}
