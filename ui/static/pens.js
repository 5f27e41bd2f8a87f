() => {
  // Two pens with the same strokes: one paints on a canvas, one writes SVG. What the page shows and what it saves as a
  // file is one drawing.
  class CanvasPen {
    constructor(canvas, width, height, scale) {
      canvas.width = Math.max(Math.round(width * scale), 1);
      canvas.height = Math.max(Math.round(height * scale), 1);
      this.context = canvas.getContext("2d");
      this.context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    }

    rect(x, y, width, height, fill, alpha = 1) {
      this.context.globalAlpha = alpha;
      this.context.fillStyle = fill;
      this.context.fillRect(x, y, width, height);
      this.context.globalAlpha = 1;
    }

    // points: [x, y, x, y, ...]
    line(points, stroke, width = 1, dash = []) {
      const { context } = this;
      context.strokeStyle = stroke;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.beginPath();
      for (let i = 0; i < points.length; i += 2) context[i ? "lineTo" : "moveTo"](points[i], points[i + 1]);
      context.stroke();
      context.setLineDash([]);
    }

    area(points, fill, alpha = 1) {
      const { context } = this;
      context.globalAlpha = alpha;
      context.fillStyle = fill;
      context.beginPath();
      for (let i = 0; i < points.length; i += 2) context[i ? "lineTo" : "moveTo"](points[i], points[i + 1]);
      context.fill();
      context.globalAlpha = 1;
    }

    // canvas: stretched over that place.
    image(canvas, x, y, width, height) {
      this.context.imageSmoothingQuality = "high";
      this.context.drawImage(canvas, x, y, width, height);
    }

    text(x, y, said, { fill, size = 11, align = "left", bold = false }) {
      this.context.font = `${bold ? "600 " : ""}${size}px system-ui, sans-serif`;
      this.context.textAlign = align;
      this.context.textBaseline = "middle";
      this.context.fillStyle = fill;
      this.context.fillText(said, x, y);
    }

    // What is drawn meanwhile lies at (x, y) and is cut off at that width and height.
    within(x, y, width, height, draw) {
      const { context } = this;
      context.save();
      context.translate(x, y);
      context.beginPath();
      context.rect(0, 0, width, height);
      context.clip();
      draw(this);
      context.restore();
    }
  }

  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const short = (number) => String(Math.round(100 * number) / 100);
  const path = (points) => {
    let d = "";
    for (let i = 0; i < points.length; i += 2) d += `${i ? "L" : "M"}${short(points[i])} ${short(points[i + 1])}`;
    return d;
  };

  class SvgPen {
    constructor(width, height) {
      this.size = [width, height];
      this.parts = [];
      this.clips = 0;
    }

    rect(x, y, width, height, fill, alpha = 1) {
      const opacity = alpha < 1 ? ` fill-opacity="${short(alpha)}"` : "";
      const box = `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"`;
      this.parts.push(`<rect ${box} fill="${fill}"${opacity}/>`);
    }

    line(points, stroke, width = 1, dash = []) {
      const dashes = dash.length ? ` stroke-dasharray="${dash.join(" ")}"` : "";
      this.parts.push(`<path d="${path(points)}" fill="none" stroke="${stroke}" stroke-width="${width}"${dashes}/>`);
    }

    area(points, fill, alpha = 1) {
      const opacity = alpha < 1 ? ` fill-opacity="${short(alpha)}"` : "";
      this.parts.push(`<path d="${path(points)}z" fill="${fill}"${opacity}/>`);
    }

    image(canvas, x, y, width, height) {
      const box = `x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}"`;
      this.parts.push(`<image ${box} preserveAspectRatio="none" href="${canvas.toDataURL("image/png")}"/>`);
    }

    text(x, y, said, { fill, size = 11, align = "left", bold = false }) {
      const anchor = { left: "start", center: "middle", right: "end" }[align];
      this.parts.push(
        `<text x="${short(x)}" y="${short(y)}" fill="${fill}" font-size="${size}" text-anchor="${anchor}"` +
          `${bold ? ' font-weight="600"' : ""} dominant-baseline="central">${escaped(said)}</text>`,
      );
    }

    within(x, y, width, height, draw) {
      const name = `clip${++this.clips}`;
      this.parts.push(`<clipPath id="${name}"><rect width="${short(width)}" height="${short(height)}"/></clipPath>`);
      this.parts.push(`<g transform="translate(${short(x)} ${short(y)})" clip-path="url(#${name})">`);
      draw(this);
      this.parts.push("</g>");
    }

    toString() {
      const [width, height] = this.size;
      return (
        `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"` +
        ` font-family="system-ui, sans-serif">${this.parts.join("")}</svg>`
      );
    }
  }

  window.figures = { CanvasPen, SvgPen, taps: [] };
}
