// Echo and broadcast on sockjs-node; started with the folder of its packages in NODE_PATH.
'use strict';

const http = require('http');
const sockjs = require('sockjs');

function option(name, value) {
  const index = process.argv.indexOf(name);
  return index < 0 ? value : Number(process.argv[index + 1]);
}

const options = {log: () => {}, heartbeat_delay: option('--heartbeat', 25) * 1000};

const echo = sockjs.createServer(options);
echo.on('connection', (connection) => {
  connection.on('data', (message) => connection.write(message));
});

const everybody = new Set();
const broadcast = sockjs.createServer(options);
broadcast.on('connection', (connection) => {
  everybody.add(connection);
  connection.on('data', (message) => everybody.forEach((other) => other.write(message)));
  connection.on('close', () => everybody.delete(connection));
});

const server = http.createServer();
echo.installHandlers(server, {prefix: '/echo'});
broadcast.installHandlers(server, {prefix: '/broadcast'});
server.listen(option('--port', 0), '127.0.0.1', 1024);
