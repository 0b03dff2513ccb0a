"use strict";

// Close a socket that has heard nothing, heartbeats included, for some seconds.  Transports that run in
// a frame (iframe-htmlfile) are not told when a server dies: such a socket would stay open for ever.

const SILENCE = Number(document.currentScript.dataset.silence) * 1000;

function watch(socket) {
  let heard = Date.now();
  let timer = null;
  const check = () => {
    if (Date.now() - heard > SILENCE) {
      socket.close(4000, "Nothing was heard from the server");
    }
  };
  for (const event of ["open", "message", "heartbeat"]) {
    socket.addEventListener(event, () => { heard = Date.now(); });
  }
  socket.addEventListener("open", () => { timer = setInterval(check, SILENCE / 10); });
  socket.addEventListener("close", () => clearInterval(timer));
}
