from tests.conftest import Recorder, Serve


async def test_poll(serve: Serve) -> None:
    class C(Recorder):
        pass

    served = await serve(C)
    assert await served.poll("/000/a") == b"o"
    assert await served.post("/000/a", '["x"]') == 204
    await C.until("x")
    C.connections[0].send("hi")
    assert await served.poll("/000/a") == b'a["hi"]'
