/*! ReconnectingSockJS of sockjs-aio, MIT licence. Needs sockjs-client; docs/client.md explains it. */

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

const CONNECTION_LOST = 1006;
const SERVICE_RESTART = 1012;

const STABLE = 10_000; // ms after which a connection counts as a success
const SECOND_LOOK = 1_000;

const DEFAULTS = {
  minDelay: 1_000,
  maxDelay: 30_000,
  restartDelay: 5_000,
  silence: 60_000,
  queueLimit: 65_536,
};

class ReconnectingSockJS extends EventTarget {
  static CONNECTING = CONNECTING;
  static OPEN = OPEN;
  static CLOSING = CLOSING;
  static CLOSED = CLOSED;

  /** The default of the option `retry`: codes that an application has chosen are final. */
  static retry({ code, wasClean }) {
    return !(wasClean && code === 1000) && !(code >= 3000 && code < 5000);
  }

  onopen = null;
  onmessage = null;
  onheartbeat = null;
  onreconnecting = null;
  onclose = null;

  readyState = CONNECTING;
  url = "";
  protocol = "";
  extensions = "";

  #source;
  #protocols;
  #options;
  #socket = null;
  #round = 0; // changes when what is under way no longer counts
  #timer = null; // set while we wait for the next attempt
  #watch = null;
  #secondLook = null;
  #heard = 0;
  #openedAt = 0;
  #hasBeenOpen = false;
  #failures = 0;
  #queue = [];
  #queued = 0;
  #listening = new AbortController();

  constructor(url, protocols, options) {
    super();
    this.#source = url;
    this.#protocols = protocols;
    this.#options = { ...DEFAULTS, retry: ReconnectingSockJS.retry, ...options };
    for (const name in DEFAULTS) {
      if (!(this.#options[name] >= 0)) {
        throw new TypeError(`${name} must be a number, 0 or above, not ${this.#options[name]}`);
      }
    }
    for (const type of ["open", "message", "heartbeat", "reconnecting", "close"]) {
      this.addEventListener(type, (event) => this["on" + type]?.(event));
    }
    this.#start(); // raises an exception if the URL is invalid
    this.#watch = setInterval(() => this.#check(), Math.min(this.#options.silence / 10, 10_000));
    this.#listen(globalThis, "offline", () => this.#lost({ reason: "The browser is offline" }));
    // all browsers of a network hear of it at once
    this.#listen(globalThis, "online", () => {
      this.#failures = 0;
      this.#startSoon(Math.random() * this.#options.minDelay);
    });
    this.#listen(globalThis.document, "visibilitychange", () => {
      if (document.visibilityState === "visible") {
        this.#startSoon(0);
      }
    });
  }

  get transport() {
    return this.#socket?.transport ?? null;
  }

  /** Send now, or as soon as there is a connection. */
  send(data) {
    if (this.readyState === OPEN && this.#socket.readyState === OPEN) {
      this.#socket.send(data);
    } else if (this.readyState <= OPEN) {
      const text = String(data);
      if (this.#queued + text.length > this.#options.queueLimit) {
        throw new Error(`Not connected, and queueLimit (${this.#options.queueLimit}) is reached`);
      }
      this.#queue.push(text);
      this.#queued += text.length;
    }
  }

  /** End it for good, also during a wait. */
  close(code = 1000, reason = "Normal closure") {
    if (this.readyState >= CLOSING) {
      return;
    }
    if (code !== 1000 && !(code >= 3000 && code < 5000)) {
      throw new Error(`close(${code}): the code must be 1000, or 3000 to 4999`);
    }
    this.#drop();
    this.readyState = CLOSING;
    setTimeout(() => this.#end({ code, reason, wasClean: true }), 0);
  }

  /** Connect again now: instead of waiting, or instead of the connection that there is. */
  reconnect() {
    if (this.readyState <= OPEN) {
      this.#failures = 0;
      this.#drop();
      this.#start();
    }
  }

  #listen(target, type, listener) {
    target?.addEventListener?.(type, listener, { signal: this.#listening.signal });
  }

  #emit(type, details) {
    this.dispatchEvent(Object.assign(new Event(type), details));
  }

  #start() {
    this.#timer = null;
    this.#heard = Date.now();
    if (typeof this.#source !== "function") {
      this.#connect(this.#source);
      return;
    }
    const round = this.#round;
    const current = (act) => (value) => round === this.#round && act(value);
    Promise.resolve()
      .then(() => this.#source())
      .then(current((url) => this.#connect(url)))
      .catch(current((error) => this.#lost({ reason: String(error?.message ?? error), error })));
  }

  #startSoon(delay) {
    if (this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#start(), delay);
    }
  }

  #connect(url) {
    const SockJS = this.#options.SockJS ?? globalThis.SockJS;
    if (!SockJS) {
      throw new Error("There is no SockJS: load sockjs-client first, or pass the option SockJS");
    }
    const socket = new SockJS(url, this.#protocols, this.#options);
    this.#socket = socket;
    this.url = socket.url;
    const on = (type, act) => {
      socket.addEventListener(type, (event) => {
        if (socket === this.#socket) {
          this.#heard = Date.now();
          act(event);
        }
      });
    };
    on("open", () => this.#open(socket));
    on("message", ({ data }) => this.#emit("message", { data }));
    on("heartbeat", () => this.#emit("heartbeat"));
    on("close", (event) => this.#lost(event));
  }

  #open(socket) {
    this.readyState = OPEN;
    this.#openedAt = Date.now();
    const isReconnect = this.#hasBeenOpen;
    this.#hasBeenOpen = true;
    this.#emit("open", { isReconnect });
    // what the page has just sent goes first
    while (this.#queue.length && socket === this.#socket && socket.readyState === OPEN) {
      const text = this.#queue.shift();
      this.#queued -= text.length;
      socket.send(text);
    }
  }

  #lost({ code = CONNECTION_LOST, reason = "", wasClean = false, error }) {
    if (this.#timer !== null || this.readyState >= CLOSING) {
      return; // offline during a wait
    }
    if (this.#openedAt && Date.now() - this.#openedAt >= STABLE) {
      this.#failures = 0;
    }
    this.#drop();
    const attempt = ++this.#failures;
    const delay = this.#delay(code, attempt);
    const event = { code, reason, wasClean, error, attempt, delay };
    const round = this.#round;
    let isRetried = false;
    try {
      isRetried = this.#options.retry(event);
    } finally {
      if (round === this.#round) { // it has called neither close() nor reconnect()
        if (isRetried) {
          this.#timer = setTimeout(() => this.#start(), delay);
          this.#emit("reconnecting", event);
        } else {
          this.#end(event);
        }
      }
    }
  }

  /** Full jitter: any time up to a limit that doubles, so that clients do not come back together. */
  #delay(code, attempt) {
    const { minDelay, maxDelay, restartDelay } = this.#options;
    const limit = Math.min(minDelay * 2 ** (attempt - 1), maxDelay);
    return Math.random() * (code === SERVICE_RESTART ? Math.max(limit, restartDelay) : limit);
  }

  /** Forget the connection, the attempt or the wait that there is. */
  #drop() {
    this.#round++;
    clearTimeout(this.#timer);
    this.#timer = null;
    const socket = this.#socket;
    this.#socket = null;
    this.#openedAt = 0;
    this.readyState = CONNECTING;
    socket?.close();
  }

  #end({ code, reason, wasClean, error }) {
    this.readyState = CLOSED;
    this.#queue = [];
    clearInterval(this.#watch);
    clearTimeout(this.#secondLook);
    this.#listening.abort();
    this.#emit("close", { code, reason, wasClean, error });
  }

  /** Look whether the server, or the page's function that makes the URL, has gone silent. */
  #check() {
    if (this.#isSilent() && this.#secondLook === null) {
      // a page that was frozen gets what came meanwhile after its timers
      this.#secondLook = setTimeout(() => {
        this.#secondLook = null;
        if (this.#isSilent()) {
          this.#lost({ reason: "Nothing was heard from the server" });
        }
      }, SECOND_LOOK);
    }
  }

  #isSilent() {
    const isWatched = this.#timer === null && this.#socket?.readyState !== CONNECTING;
    return isWatched && Date.now() - this.#heard > this.#options.silence;
  }
}

export { ReconnectingSockJS, ReconnectingSockJS as default };
