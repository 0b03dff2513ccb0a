// Types of reconnecting-sockjs.mjs; docs/client.md of sockjs-aio explains it.  Times are in milliseconds.

/** How a connection was lost, or an attempt failed. */
export interface Loss {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  /** The first attempt after a connection that lasted 10 s is number 1, the next one 2, ... */
  readonly attempt: number;
  /** The wait before this attempt. */
  readonly delay: number;
  /** What your function for the URL has thrown, if that is why. */
  readonly error?: unknown;
}

export interface OpenEvent extends Event {
  /** True unless this is the first time that the socket opens. */
  readonly isReconnect: boolean;
}

export interface DataEvent extends Event {
  readonly data: string;
}

export interface ReconnectingEvent extends Event, Loss {}

export interface EndEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  readonly error?: unknown;
}

export interface EventMap {
  open: OpenEvent;
  message: DataEvent;
  heartbeat: Event;
  reconnecting: ReconnectingEvent;
  close: EndEvent;
}

/** Besides these, all options of sockjs-client; they are passed on. */
export interface Options {
  /** Limit of the first random wait; it doubles with each failure. Default 1000. */
  minDelay?: number;
  /** Limit of all waits. Default 30000. */
  maxDelay?: number;
  /** Limit of the random wait after close code 1012, unless the other one is higher. Default 5000. */
  restartDelay?: number;
  /** A connection on which nothing came for this long, not even a heartbeat, is lost. Default 60000. */
  silence?: number;
  /** Characters that `send` keeps while there is no connection; above it, `send` throws. Default 65536. */
  queueLimit?: number;
  /** Whether to connect again; see `ReconnectingSockJS.retry`, the default. */
  retry?: (loss: Loss) => boolean;
  /** sockjs-client, if it is not the global `SockJS`. */
  SockJS?: new (url: string, protocols?: any, options?: any) => any;

  server?: string;
  sessionId?: number | (() => string);
  transports?: string | string[];
  timeout?: number;
  transportOptions?: Record<string, unknown>;
}

export class ReconnectingSockJS extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;

  /** False for the codes that an application chooses: 1000 if clean, and 3000 to 4999. */
  static retry(loss: Pick<Loss, "code" | "wasClean">): boolean;

  /**
   * @param url The URL of the service, or a function that makes one for each attempt.
   * @throws If sockjs-client does not accept the URL, is missing, or an option is not valid.
   */
  constructor(
    url: string | (() => string | Promise<string>),
    protocols?: string | string[] | null,
    options?: Options,
  );

  /** CONNECTING also while it waits for the next attempt. */
  readonly readyState: 0 | 1 | 2 | 3;
  /** The URL of the last attempt. */
  readonly url: string;
  readonly protocol: string;
  readonly extensions: string;
  /** The name of the transport while there is a connection, such as "websocket". */
  readonly transport: string | null;

  onopen: ((event: OpenEvent) => void) | null;
  onmessage: ((event: DataEvent) => void) | null;
  onheartbeat: ((event: Event) => void) | null;
  /** Comes each time the connection is lost or an attempt fails. */
  onreconnecting: ((event: ReconnectingEvent) => void) | null;
  /** Comes once: the page has closed the socket, or `retry` returned false. */
  onclose: ((event: EndEvent) => void) | null;

  /**
   * Send now, or as soon as there is a connection. After the end it does nothing.
   * @throws If there is no connection and `queueLimit` is reached.
   */
  send(data: string): void;

  /** End the socket, also during a wait. The code must be 1000, or 3000 to 4999. */
  close(code?: number, reason?: string): void;

  /** Connect again now: end a wait, or replace the open connection. */
  reconnect(): void;

  addEventListener<K extends keyof EventMap>(
    type: K,
    listener: ((event: EventMap[K]) => void) | { handleEvent(event: EventMap[K]): void } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof EventMap>(
    type: K,
    listener: ((event: EventMap[K]) => void) | { handleEvent(event: EventMap[K]): void } | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export default ReconnectingSockJS;
