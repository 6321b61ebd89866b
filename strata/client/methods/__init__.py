"""Methods that both clients have, blocking and awaited."""
