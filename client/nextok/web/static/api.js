// What the page asks the server for. Knows HTTP, and nothing of what is shown.

/** A request that was refused; `message` is for people. */
export class ApiError extends Error {
  constructor(status, message, param) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

async function request(path, body, signal) {
  const options = { signal };
  if (body !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The page's own server cannot be reached.");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  try {
    const { error } = await answer.json();
    return new ApiError(answer.status, error.message, error.param);
  } catch {
    return new ApiError(answer.status, `The server answered with ${answer.status}.`);
  }
}

/** Asks for one object. */
export async function ask(path, body, signal) {
  return (await request(path, body, signal)).json();
}

/** Asks for events, and gives each as it comes. Aborting the signal ends the work at the server. */
export async function* events(path, body, signal) {
  const answer = await request(path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = JSON.parse(part.slice("data: ".length));
        if (event.error) throw new ApiError(200, event.error.message, event.error.param);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const isAbort = (error) => error?.name === "AbortError";
