"""A dashboard as they were written about 2014: pages, a login, a ticker, channels; on Tornado."""

import logging
import logging.config
import os

import tornado.escape
import tornado.ioloop
import tornado.options
import tornado.web
from concurrent.futures import ThreadPoolExecutor
from sockjs.tornado import SockJSConnection, SockJSRouter
from tornado.concurrent import run_on_executor
from tornado.options import define, options

from multiplex import MultiplexConnection

define('port', default=8888, type=int)
define('address', default='127.0.0.1')

logging.config.dictConfig({
    'version': 1,
    'disable_existing_loggers': False,
    'handlers': {'console': {'class': 'logging.StreamHandler'}},
    'loggers': {'sockjs.tornado': {'handlers': ['console'], 'level': 'DEBUG'}},
})
log = logging.getLogger('tornado.general')

SECRET = 'change me'


class BaseHandler(tornado.web.RequestHandler):
    def get_current_user(self):
        return self.get_secure_cookie('user')


class IndexHandler(BaseHandler):
    @tornado.web.authenticated
    def get(self):
        self.render('index.html', user=self.current_user)


class LoginHandler(BaseHandler):
    executor = ThreadPoolExecutor(2)

    @run_on_executor
    def check(self, name):
        return name == 'ann'

    @tornado.web.asynchronous if hasattr(tornado.web, 'asynchronous') else (lambda f: f)
    async def post(self):
        if await self.check(self.get_argument('name')):
            self.set_secure_cookie('user', self.get_argument('name'))
        self.redirect('/')


class LoadConnection(SockJSConnection):
    clients = set()

    def on_open(self, info):
        cookie = info.get_cookie('user')
        user = cookie and tornado.web.decode_signed_value(SECRET, 'user', cookie.value)
        if not user:
            self.session.close(4001, 'Log in')
            return False
        self.user = tornado.escape.to_unicode(user)
        self.clients.add(self)
        self.send('welcome %s' % self.user)

    def on_message(self, message):
        self.broadcast(self.clients, '%s: %s' % (self.user, message))

    def on_close(self):
        self.clients.discard(self)

    @classmethod
    def tick(cls):
        for client in cls.clients:
            client.send('load 0.5')
            break


class LogConnection(SockJSConnection):
    def on_open(self, info):
        self.timeout = tornado.ioloop.IOLoop.current().call_later(0.05, self.tell)

    def on_message(self, message):
        log.info(message)

    def on_close(self):
        tornado.ioloop.IOLoop.current().remove_timeout(self.timeout)

    def tell(self):
        self.send('line 1')


class Application(tornado.web.Application):
    def __init__(self, router):
        handlers = [(r'/', IndexHandler), (r'/login', LoginHandler)] + router.urls
        tornado.web.Application.__init__(
            self,
            handlers,
            cookie_secret=SECRET,
            login_url='/login',
            template_path=os.path.dirname(__file__),
            xsrf_cookies=True,
        )


def main():
    tornado.options.parse_command_line()
    connection = MultiplexConnection.get(load=LoadConnection, log=LogConnection)
    router = SockJSRouter(connection, '/dashboard', {'websocket_allow_origin': ['dash.example.com']})
    app = Application(router)
    app.listen(options.port, address=options.address, xheaders=True)
    ticker = tornado.ioloop.PeriodicCallback(LoadConnection.tick, 100)
    ticker.start()
    tornado.ioloop.IOLoop.instance().start()


if __name__ == '__main__':
    main()
