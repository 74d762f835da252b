// Runs ONNX files in ONNX Runtime's WebAssembly build, on one thread: `node in_wasm.mjs FOLDER
// MODULES`. FOLDER/cases.json lists {name, model, input, shape}; beside it NAME.wasm.json says
// per case what came out, {logits, score, trusted}, or {error}.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, modules] = process.argv.slice(2);
const ort = createRequire(join(modules, "package.json"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
ort.env.wasm.wasmPaths = pathToFileURL(join(modules, "node_modules/onnxruntime-web/dist/")).href;

// JSON knows neither NaN nor infinity, and numbers of no kind must arrive as such
const plain = (values) => Array.from(values, (v) => (Number.isFinite(v) ? Number(v) : String(v)));

const found = {};
for (const { name, model, input, shape } of JSON.parse(readFileSync(join(folder, "cases.json")))) {
  try {
    const session = await ort.InferenceSession.create(readFileSync(join(folder, model)), {
      executionProviders: ["wasm"],
    });
    const bytes = readFileSync(join(folder, input));
    const pixels = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const said = await session.run({ image: new ort.Tensor("float32", pixels, shape) });
    const { logits, score, trusted } = said;
    found[name] = {
      logits: plain(logits.data),
      score: plain(score.data),
      trusted: Array.from(trusted.data, Number),
    };
    await session.release();
  } catch (error) {
    found[name] = { error: String(error.message ?? error) };
  }
}
writeFileSync(join(folder, "wasm.json"), JSON.stringify(found));
