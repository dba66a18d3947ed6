// Runs before the page is drawn: the theme the reader chose, else the system's.
const chosen = localStorage.getItem("moka-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
