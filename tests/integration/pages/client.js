"use strict";

// One socket, and what it received; the tests call these functions.

let socket = null;
let received = [];
let closing = null;
let notice = () => {};

// `transport`: a name that SockJS knows, null for its own choice, or "raw" for the browser's
// WebSocket without SockJS.
function connect(url, transport) {
  received = [];
  closing = null;
  if (transport === "raw") {
    socket = new WebSocket(url.replace("http", "ws") + "/websocket");
  } else {
    socket = new SockJS(url, null, { timeout: 5000, transports: transport || undefined });
  }
  socket.onmessage = (event) => {
    received.push(event.data);
    notice();
  };
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket.transport || "raw");
    socket.onclose = (event) => {
      closing = [event.code, event.reason];
      reject(new Error(`closed: ${closing}`));
      notice();
    };
  });
}

function until(condition) {
  return new Promise((resolve, reject) => {
    notice = () => {
      if (condition()) {
        resolve();
      } else if (closing) {
        reject(new Error(`closed: ${closing}; received ${received.length} messages`));
      }
    };
    notice();
  });
}

// Messages come and go as JSON text, in which lone surrogates survive.
async function echo(json) {
  const messages = JSON.parse(json);
  received = [];
  messages.forEach((message) => socket.send(message));
  await until(() => received.length >= messages.length);
  return JSON.stringify(received);
}

// A text of `size` bytes in UTF-8 that shows what got lost or out of order.
function largeText(size) {
  let text = "";
  for (let i = 0; text.length < size; i++) {
    text += `${i} `;
  }
  return text.slice(0, size);
}

async function echoLarge(size) {
  received = [];
  const text = largeText(size);
  socket.send(text);
  await until(() => received.length > 0);
  return received.length === 1 && received[0] === text;
}

function say(text) {
  socket.send(text);
}

async function closed() {
  await until(() => closing);
  return closing;
}

async function firstMessage() {
  await until(() => received.length > 0);
  return received[0];
}

function close() {
  socket.close();
}

function heartbeats(count) {
  return new Promise((resolve) => {
    socket.onheartbeat = () => --count || resolve();
  });
}

// What a page of another origin may request without being asked for leave.
async function request(method, url, isHidden) {
  const referrerPolicy = isHidden ? "no-referrer" : "origin";
  await fetch(url, { method, mode: "no-cors", credentials: "include", referrerPolicy });
}

function frame(url) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => resolve();
    frame.referrerPolicy = "no-referrer";
    frame.src = url;
    document.body.append(frame);
  });
}
