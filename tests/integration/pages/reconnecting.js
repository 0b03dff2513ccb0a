"use strict";

// A ReconnectingSockJS, and what it told; the tests call these functions.

let socket = null;
let seen = [];
let notice = () => {};

// `source`: a URL, or the values that a function returns as the URLs of one attempt after the other;
// an Error among them is raised, and "never" keeps the attempt waiting.
function start(source, options = {}) {
  seen = [];
  const attempts = Array.isArray(source) ? source : null;
  const next = async () => {
    const url = attempts.length > 1 ? attempts.shift() : attempts[0];
    if (url.startsWith("Error: ")) {
      throw new Error(url.slice(7));
    }
    if (url === "never") {
      await new Promise(() => {});
    }
    return url;
  };
  socket = new ReconnectingSockJS(attempts ? next : source, null, { timeout: 5000, ...options });
  for (const type of ["open", "message", "heartbeat", "reconnecting", "close"]) {
    socket[`on${type}`] = (event) => note(type, event);
  }
}

async function load(url) {
  const module = await import(url);
  window.ReconnectingSockJS = module.ReconnectingSockJS;
  return module.default === module.ReconnectingSockJS;
}

function note(type, event) {
  const { isReconnect, data, code, reason, wasClean, attempt, delay } = event;
  const error = event.error?.message;
  seen.push({ type, isReconnect, data, code, reason, wasClean, attempt, delay, error });
  notice();
}

// Wait for the first event of a type, forget it and those before it, and return it.
function take(type) {
  return new Promise((resolve) => {
    notice = () => {
      const index = seen.findIndex((event) => event.type === type);
      if (index >= 0) {
        notice = () => {};
        resolve({ ...seen[index], transport: socket.transport, state: socket.readyState });
        seen.splice(0, index + 1);
      }
    };
    notice();
  });
}

function say(text) {
  socket.send(text);
}

async function echo(text) {
  say(text);
  return (await take("message")).data;
}
