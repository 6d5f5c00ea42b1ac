// Goes on as soon as every frame was loaded; the page goes on by itself after a while, too.
"use strict";

window.addEventListener("load", () => {
  const link = document.getElementById("kc-continue");
  if (link) {
    location.replace(link.href);
  }
});
