// GPT-2's tokens and probabilities from Node: node next-tokens.js [HOST:PORT]
//
// Prints a sentence's tokens, then a stream of steps, each with the five tokens that were likeliest.
// The contract is read from the .proto files at run time; nothing is generated.

import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const PROTOS = fileURLToPath(new URL("../../protos", import.meta.url));
const SENTENCE = "I love Generative AI";

function connect(target) {
  const definition = protoLoader.loadSync("nextok/v1/text_generation.proto", {
    includeDirs: [PROTOS],
    keepCase: true, // the fields' names as docs/wire.md has them
    longs: Number,
    enums: String,
    defaults: true,
    oneofs: true, // optional fields tell whether they are there: `_field`
  });
  const { TextGenerationService } = grpc.loadPackageDefinition(definition).nextok.v1;
  return new TextGenerationService(target, grpc.credentials.createInsecure());
}

function tokenize(client, text) {
  return new Promise((resolve, reject) => {
    client.Tokenize({ text }, (error, reply) => (error ? reject(error) : resolve(reply.tokens)));
  });
}

function percent(logprob) {
  return `${(100 * Math.exp(logprob)).toFixed(2)}%`;
}

async function main(target) {
  const client = connect(target);
  try {
    for (const token of await tokenize(client, SENTENCE)) {
      console.log(String(token.id).padStart(6), JSON.stringify(token.token));
    }
    // A call is an async iterator of messages. Leaving the loop early cancels it.
    const call = client.Generate({
      prompt: { text: SENTENCE },
      sampling: { temperature: 0.8, seed: 7 },
      stop_conditions: { max_tokens: 8 },
      logprobs: { top_logprobs: 5 },
    });
    for await (const message of call) {
      for (const step of message.steps) {
        const likeliest = step.top_logprobs
          .map((candidate) => `${JSON.stringify(candidate.token)} ${percent(candidate.logprob)}`)
          .join("  ");
        console.log(JSON.stringify(step.delta).padEnd(14), likeliest);
      }
      if (message.finish) {
        console.log(message.finish.finish_reason, message.finish.digest);
      }
    }
  } finally {
    client.close();
  }
}

main(process.argv[2] ?? "localhost:50051").catch((error) => {
  // grpc-js puts the status code's name and the server's text into the message.
  console.error(error.message);
  process.exitCode = 1;
});
