// What a file looks like, told before it is sent: separator, header, rows and columns of a table, and why a file
// can't be taken. Only the beginning is read; the server looks at all of it when it has arrived.
"use strict";

(() => {
  const HEAD_BYTES = 1024 * 1024;
  const ROWS_COMPARED = 200;
  const NAMES_SHOWN = 6;
  const NOTES_SHOWN = 3;
  const SEPARATORS = { ",": "comma", ";": "semicolon", "\t": "tab", "|": "bar" };
  const TEXT_TABLES = ["csv", "tsv", "tab", "txt"];
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
  const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
  const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });

  function sized(bytes) {
    const power = bytes ? Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1) : 0;
    return `${number.format(bytes / 1024 ** power)} ${UNITS[power]}`;
  }

  function ending(name) {
    return name.includes(".") ? name.split(".").pop().toLowerCase() : "";
  }

  // As the server reads it: UTF-8, UTF-16 with its mark, else Windows-1252. The last character may be cut in two.
  function decoded(bytes) {
    const mark = bytes[0] * 256 + bytes[1];
    if (mark === 0xfffe) return new TextDecoder("utf-16le").decode(bytes);
    if (mark === 0xfeff) return new TextDecoder("utf-16be").decode(bytes);
    const zero = bytes.indexOf(0);
    if (zero >= 0) throw new Error(`Byte ${whole.format(zero)} is a zero, which no text has.`);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    } catch {
      return new TextDecoder("windows-1252").decode(bytes);
    }
  }

  // The rows of a text, each with the line at which it begins; `open`: the line of a quote that nothing closes.
  function rowsOf(text, separator) {
    const rows = [];
    let fields = [""];
    let [line, begun, open] = [1, 1, 0];
    const end = () => {
      if (fields.length > 1 || fields[0].trim()) rows.push({ line: begun, fields });
      fields = [""];
      begun = line;
    };
    for (let place = 0; place < text.length; place += 1) {
      const letter = text[place];
      if (letter === "\n") line += 1;
      if (open) {
        if (letter !== '"') fields[fields.length - 1] += letter;
        else if (text[place + 1] === '"') { fields[fields.length - 1] += '"'; place += 1; } else open = 0;
      } else if (letter === '"' && fields[fields.length - 1] === "") open = line;
      else if (letter === separator) fields.push("");
      else if (letter === "\n") end();
      else if (letter !== "\r") fields[fields.length - 1] += letter;
    }
    end();
    return { rows, open };
  }

  // The separator that cuts most of the first rows into equally many fields, more than one.
  function separatorOf(text) {
    const head = text.split("\n", ROWS_COMPARED).join("\n");
    let best = { separator: "", fitting: 0, width: 1 };
    for (const separator of Object.keys(SEPARATORS)) {
      const { rows } = rowsOf(head, separator);
      const width = rows[0]?.fields.length ?? 0;
      const fitting = rows.filter((row) => row.fields.length === width).length;
      if (width > 1 && (fitting > best.fitting || (fitting === best.fitting && width > best.width))) {
        best = { separator, fitting, width };
      }
    }
    return best.separator;
  }

  function headed(names) {
    const texts = names.map((name) => name.trim());
    return texts.every((text) => text && Number.isNaN(Number(text))) && new Set(texts).size === texts.length;
  }

  // What a text table has: `told` for the table's row, `notes` on what looks wrong.
  function table(text, complete, size) {
    const separator = separatorOf(text);
    const { rows, open } = rowsOf(text, separator);
    // The last row of a beginning may be cut.
    if (!complete && rows.length > 1) rows.pop();
    if (!rows.length) throw new Error("There is nothing but empty lines in it.");
    const names = rows[0].fields;
    const header = headed(names);
    const uneven = rows.filter((row) => row.fields.length !== names.length);
    const notes = uneven.slice(0, NOTES_SHOWN).map(
      (row) => `Line ${whole.format(row.line)} has ${row.fields.length} fields, the first has ${names.length}.`);
    if (uneven.length > NOTES_SHOWN) notes.push(`So have ${whole.format(uneven.length - NOTES_SHOWN)} other lines.`);
    if (open && complete) notes.push(`The quote in line ${whole.format(open)} is never closed.`);
    const data = rows.length - (header ? 1 : 0);
    const estimated = Math.round((data * size) / HEAD_BYTES);
    return {
      separator: SEPARATORS[separator] ?? "none",
      header: header ? "yes" : "none found",
      rows: complete ? whole.format(data) : `about ${whole.format(Number(estimated.toPrecision(2)))}`,
      columns: whole.format(names.length),
      names: header ? names.slice(0, NAMES_SHOWN).join(", ") + (names.length > NAMES_SHOWN ? ", …" : "") : "",
      notes,
    };
  }

  // One row of what is shown; `rejected` where the file can't be taken.
  async function recognised(file, accepted, most) {
    const found = { file, notes: [] };
    try {
      if (accepted.length && !accepted.includes(`.${ending(file.name)}`)) {
        throw new Error(`Only ${accepted.join(", ")} can be taken here.`);
      }
      if (!file.size) throw new Error("The file is empty.");
      if (most && file.size > most) throw new Error(`It is larger than the ${sized(most)} that can be sent at once.`);
      if (TEXT_TABLES.includes(ending(file.name))) {
        const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
        Object.assign(found, table(decoded(bytes), file.size <= HEAD_BYTES, file.size));
      }
    } catch (error) {
      found.rejected = error instanceof DOMException ? "It can't be read; choose it again." : error.message;
    }
    return found;
  }

  function element(name, text = "", classes = "") {
    return Object.assign(document.createElement(name), { textContent: text, className: classes });
  }

  function row(found) {
    const line = element("tr");
    const name = element("th");
    name.scope = "row";
    name.append(found.file.name);
    if (found.names) name.append(element("div", found.names, "soft small"));
    if (found.rejected) name.append(element("div", `Rejected: ${found.rejected}`, "wrong"));
    for (const note of found.notes) name.append(element("div", `Look at this: ${note}`, "wrong"));
    line.append(name, element("td", sized(found.file.size)));
    for (const key of ["separator", "header", "rows", "columns"]) line.append(element("td", found[key] ?? "–"));
    return line;
  }

  function show(place, all) {
    const table = element("table");
    const head = element("tr");
    for (const title of ["File", "Size", "Separator", "Header", "Rows", "Columns"]) {
      head.append(Object.assign(element("th", title), { scope: "col" }));
    }
    table.append(element("thead"), element("tbody"));
    table.tHead.append(head);
    table.tBodies[0].append(...all.map(row));
    const rejected = all.filter((found) => found.rejected).length;
    const taken = all.length - rejected;
    const told = `${taken} ${taken === 1 ? "file" : "files"} will be sent${rejected ? `, ${rejected} will not` : ""}.`;
    place.replaceChildren(table, element("p", told, "help"));
    place.hidden = false;
  }

  // Look at what was chosen in `input`, tell of it in `place`, and leave out what can't be taken.
  window.labfleetRecognise = async (input, place) => {
    const chosen = [...input.files];
    const most = Number(input.dataset.most);
    const accepted = input.accept ? input.accept.split(",") : [];
    const all = await Promise.all(chosen.map((file) => recognised(file, accepted, most)));
    if (chosen.some((file, at) => file !== input.files[at])) return;
    let sum = 0;
    for (const found of all) {
      if (found.rejected) continue;
      sum += found.file.size;
      if (most && sum > most) found.rejected = `With those before, it is more than the ${sized(most)} that can be sent at once.`;
    }
    const kept = new DataTransfer();
    for (const found of all) if (!found.rejected) kept.items.add(found.file);
    if (kept.files.length < chosen.length) input.files = kept.files;
    place.hidden = !all.length;
    if (all.length) show(place, all);
  };
})();
