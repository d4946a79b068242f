"use strict";
/* The page talks to workers only through df_websockets' own script, which is loaded before this one. */
document.addEventListener("DOMContentLoaded", () => {
  const log = document.getElementById("log");
  const name = document.getElementById("name");

  const show = (from, text) => {
    const line = document.createElement("li");
    const who = document.createElement("b");
    who.textContent = from;
    who.className = from;
    const what = document.createElement("span");
    what.textContent = text;
    line.append(who, what);
    log.prepend(line);
  };

  window.DFSignals.connect("demo.answer", (opts) => show(opts.from, opts.text));
  window.DFSignals.connect("demo.broadcast", (opts) => show("everyone", opts.text));

  const onClick = (id, action) => document.getElementById(id).addEventListener("click", action);
  for (const [id, signal] of [
    ["python-hello", "demo.python_hello"],
    ["go-hello", "demo.go_hello"],
    ["both", "demo.both"],
    ["go-broadcast", "demo.go_broadcast"],
  ]) {
    onClick(id, () => window.DFSignals.call(signal, {name: name.value}));
  }
  onClick("view-to-go", async () => {
    /* the header makes Django take the window key of this page instead of a new one */
    const query = new URLSearchParams({name: name.value});
    const response = await fetch(`/trigger-go/?${query}`, {headers: {"X-Requested-With": "XMLHttpRequest"}});
    if (!response.ok) {
      show("django", `the view answered ${response.status}`);
    }
  });

  const status = document.getElementById("status");
  const showStatus = () => {
    const connection = window.DFSignals.connection;
    const open = Boolean(connection) && connection.readyState === WebSocket.OPEN;
    status.classList.toggle("connected", open);
    status.textContent = open ? "connected" : "not connected";
  };
  showStatus();
  setInterval(showStatus, 200);
});
