"""The promises that mdive asks of every plugin."""

from mdive.testing import parametrize_plugin


@parametrize_plugin("mdive-plugin-example")
def test_a_promise_is_kept(check):
    check()
