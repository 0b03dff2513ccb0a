"use strict";

const PEOPLE = [
  { name: "ann", hint: "answers", hue: 265 },
  { name: "bob", hint: "tells all who listen", hue: 200 },
  { name: "carl", hint: "leaves after one message", hue: 340 },
];
const element = (id) => document.getElementById(id);

// The protocol of websocket-multiplex: sub, msg and uns, over one socket.

class Multiplexer {
  constructor(socket) {
    this.socket = socket;
    this.channels = new Map();
  }

  subscribe(name, onmessage, onclose) {
    this.channels.set(name, { onmessage, onclose });
    this.socket.send(`sub,${name}`);
  }

  send(name, text) {
    this.socket.send(`msg,${name},${text}`);
  }

  unsubscribe(name) {
    this.socket.send(`uns,${name}`);
    this.close(name, "You have left");
  }

  receive(message) {
    const [verb, name, ...data] = message.split(",");
    if (verb === "msg") {
      this.channels.get(name)?.onmessage(data.join(","));
    } else if (verb === "uns") {
      this.close(name, "The server has closed this channel");
    }
  }

  close(name, why) {
    const channel = this.channels.get(name);
    this.channels.delete(name);
    channel?.onclose(why);
  }

  closeAll(why) {
    [...this.channels.keys()].forEach((name) => this.close(name, why));
  }
}

// The connection.  ?transport=xhr-polling forces a transport.

let multiplexer = null;

function connect() {
  show("connecting", "Connecting");
  const transports = new URLSearchParams(location.search).get("transport") || undefined;
  const socket = new ReconnectingSockJS("/multiplex", null, { timeout: 5000, transports });
  socket.onopen = () => {
    multiplexer = new Multiplexer(socket);
    show("open", "Connected", socket.transport);
    boxes.forEach((box) => box.open());
  };
  socket.onmessage = (event) => multiplexer.receive(event.data);
  // the server knows nothing of the channels of a lost connection
  socket.onreconnecting = socket.onclose = () => {
    show("waiting", "Disconnected");
    const lost = multiplexer;
    multiplexer = null;
    lost?.closeAll("The connection was lost");
  };
}

// The page.  What came from the server goes into textContent, never into markup.

class Box {
  constructor({ name, hint, hue }) {
    this.name = name;
    this.root = element("channel").content.cloneNode(true).firstElementChild;
    this.root.id = name;
    const find = (selector) => this.root.querySelector(selector);
    this.log = find("ol");
    this.log.ariaLabel = `Messages of ${name}`;
    this.input = find("input");
    this.input.ariaLabel = `Message to ${name}`;
    this.toggle = find(".toggle");
    this.toggle.onclick = () => (this.isOpen ? multiplexer.unsubscribe(name) : this.open());
    find("h2").textContent = name[0].toUpperCase() + name.slice(1);
    find(".hint").textContent = hint;
    find(".avatar").textContent = name[0].toUpperCase();
    find(".avatar").style.setProperty("--hue", hue);
    find("form").onsubmit = (event) => this.submit(event);
    this.setOpen(false);
    element("channels").append(this.root);
  }

  open() {
    this.setOpen(true);
    multiplexer.subscribe(this.name, (text) => this.say(text), (why) => this.closed(why));
  }

  closed(why) {
    this.setOpen(false);
    this.add("notice", why);
  }

  setOpen(isOpen) {
    this.isOpen = isOpen;
    this.root.dataset.open = isOpen;
    this.input.placeholder = isOpen ? "Write a message" : "Not subscribed";
    this.toggle.textContent = isOpen ? "Unsubscribe" : "Subscribe";
    this.toggle.disabled = !multiplexer;
  }

  submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (text && this.isOpen) {
      this.input.value = "";
      this.say(text, "mine");
      multiplexer.send(this.name, text);
    }
  }

  say(text, whose = "") {
    const bubble = document.createElement("div");
    bubble.className = "bubble text";
    bubble.dir = "auto";
    bubble.textContent = text;
    this.add(`message ${whose}`, bubble);
  }

  add(className, content) {
    const node = document.createElement("li");
    node.className = className;
    node.append(content);
    this.log.append(node);
    this.log.scrollTop = this.log.scrollHeight;
  }
}

function show(state, text, transport = "") {
  document.body.dataset.state = state;
  element("state").textContent = text;
  element("transport").textContent = transport;
}

const boxes = PEOPLE.map((person) => new Box(person));
if (window.SockJS) {
  connect();
} else {
  show("waiting", "sockjs-client could not be loaded");
}
