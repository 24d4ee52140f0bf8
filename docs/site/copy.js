// A button on each example that copies what is to be typed: no prompts, no output.
"use strict";

(() => {
  // A command goes on behind a backslash, and until the end of a here-document.
  const commands = (lines) => {
    const made = [];
    let end = null;
    let more = false;
    for (const line of lines) {
      if (end !== null || more) made.push(line);
      else if (line.startsWith("$ ")) made.push(line.slice(2));
      else continue;
      if (end !== null) {
        if (line === end) end = null;
      } else {
        const here = line.match(/<<'?(\w+)'?/);
        if (here) end = here[1];
        more = line.endsWith("\\");
      }
    }
    return made;
  };

  // Python's prompt wants an empty line where an indented block ends.
  const session = (lines) => {
    const made = [];
    let inside = false;
    for (const line of lines) {
      inside = line.startsWith(">>> ") || (inside && line.startsWith("... "));
      if (!inside) continue;
      const code = line.slice(4);
      if (/^\s/.test(made[made.length - 1] ?? "") && /^[^\s)}\]]/.test(code)) made.push("");
      made.push(code);
    }
    return made;
  };

  const typed = (block) => {
    const lines = block.textContent.split("\n");
    if (lines.some((line) => line.startsWith("$ "))) return commands(lines).join("\n") + "\n";
    if (lines.some((line) => line.startsWith(">>> "))) return session(lines).join("\n") + "\n";
    return block.textContent;
  };

  const toClipboard = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    return undefined;
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".highlight-console pre, .highlight-python pre, .highlight-sh pre").forEach((block) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-label", "Copy what is to be typed");
      button.addEventListener("click", async () => {
        await toClipboard(typed(block));
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 1500);
      });
      block.parentElement.append(button);
      block.typed = typed; // for who wants to look, as the tests do
    });
  });
})();
