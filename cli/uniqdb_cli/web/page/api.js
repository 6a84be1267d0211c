// Asking the server. The browser itself keeps answers and asks whether they still hold (ETag), so asking again is cheap.

const TIMEOUT_MS = 15_000;

/** What the server refuses, in its own words. `status` is 0 where it does not answer at all. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The address of a question; parameters without a value are left out. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value) query.set(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** The answer, and the tag of the commit that it is of. */
export async function ask(path, parameters) {
  let response;
  try {
    // By the origin: a page that was opened with its password in the address may not ask by that address.
    response = await fetch(location.origin + address(path, parameters), { signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Refused(response.status, `The server answered with status ${response.status}.`);
  }
  if (!response.ok) throw new Refused(response.status, `${body.title}: ${body.detail} (${body.hint}).`);
  return { body, etag: response.headers.get("etag") };
}
