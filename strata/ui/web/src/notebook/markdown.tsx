// Markdown as elements: the text is parsed to a tree, and the tree is shown. HTML in it stays a text, and no
// address is followed that is not one of the web, of mail or of these pages. Part of a chunk that is loaded when needed.
import type { SyntaxNode } from "@lezer/common";
import { GFM, parser } from "@lezer/markdown";
import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";

const markdown = parser.configure(GFM);

/** Levels of quotes, lists and emphasis that are shown as such; what is deeper is shown as text. */
const DEEPEST = 24;
const LONGEST = 200_000;

/** Marks, which are no text. */
const MARKS = new Set(["HeaderMark", "QuoteMark", "ListMark", "LinkMark", "EmphasisMark", "CodeMark", "CodeInfo", "LinkTitle", "LinkLabel", "StrikethroughMark", "TableDelimiter", "TaskMarker"]);

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", hellip: "…", ndash: "–", mdash: "—", times: "×", rarr: "→", larr: "←" };

export function Markdown({ text }: { text: string }) {
  const shown = useMemo(() => new Renderer(text.slice(0, LONGEST)).all(), [text]);
  return <div class="markdown">{shown}</div>;
}

/** Return an address that may be followed; null for any other, `javascript:` above all. */
export function safeAddress(text: string): string | null {
  try {
    const url = new URL(text, document.baseURI);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

class Renderer {
  private readonly references = new Map<string, string>();

  constructor(private readonly source: string) {}

  all(): ComponentChildren {
    const top = markdown.parse(this.source).topNode;
    for (let node = top.firstChild; node; node = node.nextSibling) {
      if (node.name !== "LinkReference") continue;
      const label = node.getChild("LinkLabel");
      const url = node.getChild("URL");
      if (label && url) this.references.set(named(this.text(label)), unescaped(this.text(url)));
    }
    return this.blocks(top, 0);
  }

  private text(node: { from: number; to: number }): string {
    return this.source.slice(node.from, node.to);
  }

  private blocks(parent: SyntaxNode, depth: number): ComponentChildren[] {
    const found: ComponentChildren[] = [];
    for (let node = parent.firstChild; node; node = node.nextSibling) found.push(this.block(node, depth));
    return found;
  }

  private block(node: SyntaxNode, depth: number): ComponentChildren {
    if (depth > DEEPEST) return <p>{this.text(node)}</p>;
    switch (node.name) {
      case "Paragraph":
        return <p>{this.inline(node, depth)}</p>;
      case "Task":
        return (
          <p>
            <input type="checkbox" disabled checked={/^\[x\]/i.test(this.text(node))} aria-label="Done" /> {this.inline(node, depth)}
          </p>
        );
      case "ATXHeading1":
      case "SetextHeading1":
        // The page has its own first heading.
        return <h2 class="h1">{this.inline(node, depth)}</h2>;
      case "ATXHeading2":
      case "SetextHeading2":
        return <h3 class="h2">{this.inline(node, depth)}</h3>;
      case "ATXHeading3":
        return <h4>{this.inline(node, depth)}</h4>;
      case "ATXHeading4":
        return <h5>{this.inline(node, depth)}</h5>;
      case "ATXHeading5":
      case "ATXHeading6":
        return <h6>{this.inline(node, depth)}</h6>;
      case "Blockquote":
        return <blockquote>{this.blocks(node, depth + 1)}</blockquote>;
      case "BulletList":
        return <ul>{this.blocks(node, depth + 1)}</ul>;
      case "OrderedList": {
        const mark = node.getChild("ListItem")?.getChild("ListMark");
        const start = mark ? Number.parseInt(this.text(mark), 10) : 1;
        return <ol start={Number.isFinite(start) ? start : 1}>{this.blocks(node, depth + 1)}</ol>;
      }
      case "ListItem":
        return <li>{this.blocks(node, depth + 1)}</li>;
      case "FencedCode":
      case "CodeBlock":
        return (
          <pre tabIndex={0}>
            <code>
              {node
                .getChildren("CodeText")
                .map((one) => this.text(one))
                .join(node.name === "CodeBlock" ? "\n" : "")}
            </code>
          </pre>
        );
      case "HorizontalRule":
        return <hr />;
      case "Table":
        return this.table(node, depth);
      case "LinkReference":
        return null;
      default:
        // HTML of every kind is a text.
        return MARKS.has(node.name) ? null : <p>{this.text(node)}</p>;
    }
  }

  private table(node: SyntaxNode, depth: number): ComponentChildren {
    const header = node.getChild("TableHeader");
    const columns = header ? cells(header).length : 0;
    const row = (of: SyntaxNode, head: boolean) => {
      const found = cells(of);
      // A row has as many cells as there are columns.
      while (found.length < columns) found.push(null);
      return (
        <tr>
          {found.slice(0, columns).map((one) => {
            const shown = one ? this.inline(one, depth) : "";
            return head ? <th scope="col">{shown}</th> : <td>{shown}</td>;
          })}
        </tr>
      );
    };
    return (
      <div class="scroll" tabIndex={0}>
        <table>
          {header && <thead>{row(header, true)}</thead>}
          <tbody>{node.getChildren("TableRow").map((one) => row(one, false))}</tbody>
        </table>
      </div>
    );
  }

  private inline(parent: SyntaxNode, depth: number): ComponentChildren[] {
    const found: ComponentChildren[] = [];
    let at = parent.from;
    const plain = (to: number) => {
      if (to > at) found.push(this.source.slice(at, to));
    };
    for (let node = parent.firstChild; node; node = node.nextSibling) {
      plain(node.from);
      at = node.to;
      if (MARKS.has(node.name) || node.name === "URL") {
        if (node.name === "URL" && parent.name !== "Link" && parent.name !== "Image") found.push(this.link(this.text(node), this.text(node)));
        else if (node.name === "HeaderMark" || node.name === "TaskMarker") {
          while (this.source[at] === " ") at += 1;
        }
        continue;
      }
      found.push(this.span(node, depth + 1));
    }
    plain(parent.to);
    return found;
  }

  private span(node: SyntaxNode, depth: number): ComponentChildren {
    const text = this.text(node);
    if (depth > DEEPEST) return text;
    switch (node.name) {
      case "Emphasis":
        return <em>{this.inline(node, depth)}</em>;
      case "StrongEmphasis":
        return <strong>{this.inline(node, depth)}</strong>;
      case "Strikethrough":
        return <del>{this.inline(node, depth)}</del>;
      case "InlineCode":
        return <code>{text.replace(/^`+ ?| ?`+$/g, "")}</code>;
      case "Escape":
        return text.slice(1);
      case "Entity":
        return entity(text);
      case "HardBreak":
        return <br />;
      case "Autolink":
        return this.link(text.slice(1, -1), text.slice(1, -1));
      case "Link":
      case "Image": {
        const url = node.getChild("URL");
        const marks = node.getChildren("LinkMark");
        const [open, close] = marks;
        const label = open && close ? this.source.slice(open.to, close.from) : text;
        const given = node.getChild("LinkLabel");
        const key = named(given && given.to - given.from > 2 ? this.text(given) : `[${label}]`);
        const target = url ? unescaped(this.text(url).replace(/^<|>$/g, "")) : this.references.get(key);
        if (target === undefined) return text;
        // Pictures from elsewhere are not loaded: their address tells who reads the notebook.
        if (node.name === "Image") return this.link(target, `Picture: ${label || target}`);
        return this.link(target, this.between(node, open?.to ?? node.from, close?.from ?? node.to, depth));
      }
      default:
        return text;
    }
  }

  private between(node: SyntaxNode, from: number, to: number, depth: number): ComponentChildren[] {
    const found: ComponentChildren[] = [];
    let at = from;
    for (let child = node.firstChild; child; child = child.nextSibling) {
      if (child.from < from || child.to > to) continue;
      if (child.from > at) found.push(this.source.slice(at, child.from));
      found.push(this.span(child, depth + 1));
      at = child.to;
    }
    if (to > at) found.push(this.source.slice(at, to));
    return found;
  }

  private link(target: string, label: ComponentChildren): ComponentChildren {
    const mail = /^[^\s:/@]+@[^\s:/@]+$/.test(target) ? `mailto:${target}` : target;
    const address = safeAddress(/^www\./i.test(mail) ? `https://${mail}` : mail);
    if (address === null) return <>{label}</>;
    const elsewhere = new URL(address).origin !== location.origin;
    return (
      <a href={address} {...(elsewhere ? { target: "_blank", rel: "noopener noreferrer" } : {})}>
        {label}
      </a>
    );
  }
}

/** Return the cells of a row of a table; null for an empty one, which is no node of the tree. */
function cells(row: SyntaxNode): (SyntaxNode | null)[] {
  const found: (SyntaxNode | null)[] = [];
  let since = true;
  for (let node = row.firstChild; node; node = node.nextSibling) {
    if (node.name === "TableCell") {
      found.push(node);
      since = true;
    } else if (node.name === "TableDelimiter") {
      if (!since) found.push(null);
      since = false;
    }
  }
  return found;
}

function named(label: string): string {
  return label.slice(1, -1).trim().replace(/\s+/g, " ").toLowerCase();
}

function unescaped(text: string): string {
  return text.replace(/\\([!-/:-@[-`{-~])/g, "$1");
}

function entity(text: string): string {
  const number = /^&#(x[0-9a-f]{1,6}|\d{1,7});$/i.exec(text)?.[1];
  if (number === undefined) return ENTITIES[text.slice(1, -1)] ?? text;
  const code = /^x/i.test(number) ? Number.parseInt(number.slice(1), 16) : Number.parseInt(number, 10);
  return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
}
