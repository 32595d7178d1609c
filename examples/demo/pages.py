"""The HTML of the demo's pages, as Jinja templates."""

from __future__ import annotations

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>async_jwt demo</title>
<style>
  :root { color-scheme: light dark; --edge: color-mix(in srgb, currentColor 20%, transparent); }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center;
         font: 1rem/1.5 system-ui, sans-serif; }
  main { width: min(22rem, 84vw); padding: 2rem; border: 1px solid var(--edge); border-radius: .75rem; }
  h1 { margin: 0 0 1rem; font-size: 1.4rem; }
  label { display: block; margin-bottom: .9rem; font-size: .9rem; }
  input, button { box-sizing: border-box; width: 100%; padding: .6rem .7rem; font: inherit;
                  border: 1px solid var(--edge); border-radius: .4rem; }
  button { margin-top: .5rem; border: 0; background: #2457d6; color: #fff; cursor: pointer; }
  button.quiet { background: none; color: inherit; border: 1px solid var(--edge); }
  .problem { color: #c22; }
  li.device { padding: .5rem 0; border-bottom: 1px solid var(--edge); }
  li.device small { display: block; opacity: .75; }
  ul.devices { height: auto; }
  output { display: block; min-height: 1.5em; margin-top: 1rem; }
  ul { height: 12rem; margin: 0 0 1rem; padding: 0; overflow: auto; overflow-wrap: anywhere;
       list-style: none; }
</style>
</head>
<body>
<main>
"""

_FOOT = """</main>
</body>
</html>
"""

LOGIN_PAGE = f"""{_HEAD}
<h1>Log in</h1>
{{% if problem %}}<p class="problem" role="alert">{{{{ problem }}}}</p>{{% endif %}}
<form method="post" action="/login">
  <label>Name <input name="name" autocomplete="username" required autofocus></label>
  <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
  <label><input name="remember" type="checkbox"> Stay signed in when the browser closes</label>
  <button>Log in</button>
</form>
{_FOOT}"""

_SCRIPT = """
  const cookie = (name) =>
    document.cookie.split("; ").find((pair) => pair.startsWith(name + "="))?.slice(name.length + 1) ?? "";

  const post = (path, csrf) =>
    fetch(path, {method: "POST", headers: {"X-CSRF-TOKEN": cookie(csrf)}});

  const refresh = () => post("/refresh", "__Host-csrf_refresh_token");

  // An access token lives for minutes: when it has ended, the refresh token fetches a new one.
  async function send(path) {
    const answer = await post(path, "__Host-csrf_access_token");
    if (answer.status !== 401) return answer;
    return (await refresh()).ok ? post(path, "__Host-csrf_access_token") : answer;
  }
"""

ACCOUNT_PAGE = f"""{_HEAD}
<h1>Hello, {{{{ current_user.name }}}}</h1>
<p>The token is in a cookie that scripts cannot read. Its CSRF value is in one that they can.</p>
<p><a href="/live">The notice board</a> is a live WebSocket.
<a href="/devices/">Your devices</a> are where you are signed in.</p>
<button id="greet">Send a protected POST</button>
<button id="logout" class="quiet">Log out</button>
<button id="logout-everywhere" class="quiet">Log out on all devices</button>
<output id="answer"></output>
<script>{_SCRIPT}
  document.getElementById("greet").onclick = async () => {{
    const answer = await send("/api/greeting");
    const body = await answer.json();
    document.getElementById("answer").textContent = `${{answer.status}}: ${{body.greeting ?? body.msg}}`;
  }};
  document.getElementById("logout").onclick = async () => {{
    await send("/logout");
    location.assign("/login");
  }};
  document.getElementById("logout-everywhere").onclick = async () => {{
    await send("/api/logout-everywhere");
    location.assign("/login");
  }};
</script>
{_FOOT}"""

LIVE_PAGE = f"""{_HEAD}
<h1>Notice board</h1>
<ul id="notices"></ul>
<form id="form">
  <label>Notice <input id="text" maxlength="{{{{ max_length }}}}" autocomplete="off" required></label>
  <button id="post" disabled>Post to everybody</button>
</form>
<output id="state"></output>
<p><a href="/account">Back to the account</a></p>
<script>{_SCRIPT}
  const [notices, form, text, button, state] =
    ["notices", "form", "text", "post", "state"].map((id) => document.getElementById(id));
  let socket;

  function show(message, connected = false) {{
    state.textContent = message;
    button.disabled = !connected;
  }}

  // The browser sends the cookie along, and an Origin that the server compares with its own.
  function connect() {{
    show("Connecting");
    socket = new WebSocket(location.origin.replace("http", "ws") + "/live/socket");
    socket.onopen = () => show("Connected", true);
    socket.onmessage = ({{data}}) => {{
      const notice = JSON.parse(data);
      const item = document.createElement("li");
      item.textContent = `${{notice.name}}: ${{notice.text}}`;  // a text, never HTML: anybody wrote it
      notices.append(item);
      item.scrollIntoView();
    }};
    // 1008 is about the token: ask for a new one at once. All else is about the connection.
    socket.onclose = ({{code}}) => {{
      show("Disconnected");
      setTimeout(renew, code === 1008 ? 0 : 2000);
    }};
  }}

  // Ends at the login if the refresh token counts no more either: the user is signed out.
  async function renew() {{
    const answer = await refresh().catch(() => null);
    if (answer?.status === 401) {{
      show("Signed out");
      location.assign("/login");
    }} else if (answer?.ok) {{
      connect();
    }} else {{
      setTimeout(renew, 2000);
    }}
  }}

  form.onsubmit = (event) => {{
    event.preventDefault();
    if (socket.readyState !== WebSocket.OPEN) return;
    socket.send(text.value);
    form.reset();
  }};
  connect();
</script>
{_FOOT}"""

DEVICES_PAGE = f"""{_HEAD}
<h1>Your devices</h1>
{{% for incident in incidents %}}<p class="problem" role="alert">{{{{ incident }}}}</p>{{% endfor %}}
<ul class="devices">
{{% for session in page.sessions %}}
<li class="device" data-sid="{{{{ session.sid }}}}">
  {{{{ session.device or "Unknown" }}}}{{% if session.current %}} (this one){{% endif %}}
  <small>Signed in {{{{ session.created_at.strftime("%d %b %H:%M") }}}},
  last used {{{{ session.last_used_at.strftime("%d %b %H:%M") }}}} UTC</small>
  {{% if not session.current %}}<button class="quiet">Sign out</button>{{% endif %}}
</li>
{{% endfor %}}
</ul>
{{% if page.cursor %}}<p><a href="?after={{{{ page.cursor|urlencode }}}}">More</a></p>{{% endif %}}
<button id="others" class="quiet">Sign out on all other devices</button>
<p><a href="/account">Back to the account</a></p>
<script>{_SCRIPT}
  async function act(path) {{
    const answer = await send(path);
    location.assign(answer.status === 401 ? "/login" : "/devices/");
  }}

  for (const item of document.querySelectorAll("li.device button")) {{
    item.onclick = () => act(`/devices/${{item.parentElement.dataset.sid}}/sign-out`);
  }}
  document.getElementById("others").onclick = () => act("/devices/sign-out-others");
</script>
{_FOOT}"""
