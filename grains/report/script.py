"""What the page does when it is clicked; without it, everything is shown."""

SCRIPT = r"""
(() => {
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  for (const one of all('.scripted')) one.hidden = false;
  document.documentElement.classList.add('live');

  // --- level and metric ---
  const picks = all('[data-pick]'), metric = document.getElementById('metric');
  let level = '';
  const show = () => {
    const wanted = metric ? metric.value : '';
    const apart = (one) =>
      level && one.dataset.level && one.dataset.level !== level && one.dataset.level !== 'own';
    for (const one of all('section[data-level]')) one.hidden = apart(one);
    for (const table of all('table')) {
      const rows = all('tr[data-metric]', table);
      // A task without the wanted metric keeps its main one, rather than an empty table.
      const held = rows.some((row) => '=' + row.dataset.metric === wanted) ? wanted : 'main';
      for (const row of rows) {
        const other = wanted !== '' &&
          (held === 'main' ? !row.dataset.main : '=' + row.dataset.metric !== held);
        row.hidden = other || Boolean(apart(row));
      }
    }
    for (const one of all('.mark')) {
      one.classList.toggle('now', level !== '' && one.dataset.level === level);
    }
    for (const one of picks) one.setAttribute('aria-pressed', one.dataset.pick === level);
  };
  for (const one of picks) {
    if (one.dataset.first === '1') level = one.dataset.pick;
    one.addEventListener('click', () => { level = one.dataset.pick; show(); });
  }
  if (metric) metric.addEventListener('change', show);
  show();

  // --- sorting: what has no number comes last, either way ---
  for (const table of all('table.sortable')) {
    const heads = all('thead th', table), body = table.tBodies[table.tBodies.length - 1];
    heads.forEach((head, column) => head.querySelector('button').addEventListener('click', () => {
      const falls = head.getAttribute('aria-sort') === 'descending' ||
        (!head.hasAttribute('aria-sort') && !head.classList.contains('number'));
      for (const one of heads) one.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', falls ? 'ascending' : 'descending');
      const sign = falls ? 1 : -1, key = (row) => row.cells[column].dataset.value;
      const text = (row) => row.cells[column].textContent;
      const numbers = [...body.rows].some((row) => key(row) !== undefined);
      const order = (a, b) => {
        if (!numbers) return sign * text(a).localeCompare(text(b), 'en', { numeric: true });
        const [x, y] = [key(a), key(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * (x - y);
      };
      body.append(...[...body.rows].sort(order));
    }));
  }

  // --- lines on and off, in all drawings ---
  for (const one of all('[data-toggle]')) one.addEventListener('click', () => {
    const shown = one.getAttribute('aria-pressed') !== 'true', who = one.dataset.toggle;
    for (const same of all(`[data-toggle="${who}"]`)) same.setAttribute('aria-pressed', shown);
    for (const line of all(`.plot [data-method="${who}"]`)) line.classList.toggle('off', !shown);
  });

  // --- what a point says: under the pointer, or by the arrow keys ---
  const tip = document.getElementById('tip');
  const hide = () => { tip.hidden = true; };
  const tell = (mark) => {
    tip.textContent = mark.getAttribute('aria-label');
    tip.hidden = false;
    const place = mark.querySelector('circle').getBoundingClientRect();
    const left = Math.min(place.left + 14, innerWidth - tip.offsetWidth - 8);
    const above = place.top - tip.offsetHeight - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 0 ? above : place.bottom + 6}px`;
  };
  for (const plot of all('.plot')) {
    const marks = all('.mark', plot);
    for (const mark of marks) {
      const title = mark.querySelector('title');
      mark.setAttribute('aria-label', title.textContent);
      title.remove();  // the browser's own tip would lie over ours
      mark.setAttribute('tabindex', '-1');
      mark.addEventListener('pointerenter', () => tell(mark));
      mark.addEventListener('pointerleave', hide);
      mark.addEventListener('focus', () => tell(mark));
      mark.addEventListener('blur', hide);
    }
    plot.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === 'Escape') hide();
      if (!step) return;
      event.preventDefault();
      const seen = marks.filter((mark) => !mark.parentNode.classList.contains('off'));
      const now = seen.indexOf(document.activeElement);
      const next = now < 0 ? (step > 0 ? 0 : seen.length - 1) : now + step;
      if (seen.length) seen[(next + seen.length) % seen.length].focus();
    });
  }
  addEventListener('scroll', hide, { passive: true });

  // --- answers of one method beside the unsteered ---
  for (const picker of all('.picker')) {
    const choose = () => {
      for (const one of all('.answer', picker.closest('section, details'))) {
        const { who } = one.dataset;
        one.hidden = picker.value !== '' && who !== '' && who !== picker.value;
      }
    };
    picker.addEventListener('change', choose);
    choose();
  }

  // --- copying ---
  for (const button of all('.copy')) button.addEventListener('click', async () => {
    const code = button.parentNode.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
    } catch {  // not allowed: selected, it is one key away
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });

  addEventListener('beforeprint', () => { for (const one of all('details')) one.open = true; });
})();
"""
